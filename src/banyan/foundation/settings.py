"""Settings of this process, read once at the edge and handed down.

The only reader of environment variables. Called by the command line and by the
Python API; everything below receives plain values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from banyan.foundation.errors import InputError


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says.

    Attributes:
        cache_directory: where compiled programs, graphs and device profiles are kept.
        compiler_command: the C++ compiler to use instead of the first one found.
        offline: never ask a model hub.
    """

    cache_directory: Path
    compiler_command: str | None = None
    offline: bool = False


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Read `Settings` from environment variables.

    `BANYAN_CACHE` names the cache folder (default: the user's cache folder), `BANYAN_CXX` the
    C++ compiler, `HF_HUB_OFFLINE` forbids asking a hub.
    """
    return Settings(
        cache_directory=_cache_directory(environment),
        compiler_command=environment.get("BANYAN_CXX") or None,
        offline=environment.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"},
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
