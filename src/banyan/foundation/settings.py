"""Settings of this process, read once at the edge and handed down.

The only reader of environment variables. Called by the command line and by the
Python API; everything below receives plain values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from banyan.foundation.byte_sizes import parse_bytes
from banyan.foundation.errors import InputError

_PACKED_CACHE = "64GiB"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says.

    Attributes:
        cache_directory: where compiled programs, graphs and device profiles are kept.
        compiler_command: the C++ compiler to use instead of the first one found.
        offline: never ask a model hub.
        packed_cache_bytes: how much packed weights may take on disk; 0 keeps none.
    """

    cache_directory: Path
    compiler_command: str | None = None
    offline: bool = False
    packed_cache_bytes: int = 64 * 2**30


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Read `Settings` from environment variables.

    `BANYAN_CACHE` names the cache folder (default: the user's cache folder), `BANYAN_CXX` the
    C++ compiler, `HF_HUB_OFFLINE` forbids asking a hub, `BANYAN_PACKED_CACHE` says how much packed
    weights may take in the cache folder ("64GiB" by default, "0" for none).
    """
    return Settings(
        cache_directory=_cache_directory(environment),
        compiler_command=environment.get("BANYAN_CXX") or None,
        offline=environment.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"},
        packed_cache_bytes=parse_bytes(
            environment.get("BANYAN_PACKED_CACHE") or _PACKED_CACHE, name="BANYAN_PACKED_CACHE"
        ),
    )


def _cache_directory(environment: Mapping[str, str]) -> Path:
    if chosen := environment.get("BANYAN_CACHE"):
        path = Path(chosen)
        if path.exists() and not path.is_dir():
            raise InputError(f"BANYAN_CACHE={chosen} is a file; name a folder or unset it")
        return path
    if base := environment.get("XDG_CACHE_HOME"):
        return Path(base) / "banyan"
    return Path(environment.get("HOME", "/tmp")) / ".cache" / "banyan"
