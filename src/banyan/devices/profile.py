"""What a device was measured to do, kept on disk.

A profile is measured once per device (`banyan devices --measure`) and read by everything that
predicts. Owns the file format; measures nothing.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from banyan.devices.chip import DeviceFacts
from banyan.foundation.errors import StorageFull

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Measured speed of one device.

    Attributes:
        fingerprint: of the device this was measured on; see `fingerprint_of`.
        model: the maker's name of the chip.
        measured_on: the day, as YYYY-MM-DD.
        num_threads: threads that took part in the numbers "all threads".
        read_bytes_per_second: reading memory with all threads.
        read_bytes_per_second_one_thread: reading memory with one.
        copy_bytes_per_second: host to device; on a CPU the same as reading.
        operations_per_second: dtype -> multiplications and additions, all threads.
        operations_per_second_one_thread: the same with one thread.
        launch_seconds: what starting an empty program costs.
    """

    fingerprint: str
    model: str
    measured_on: str
    num_threads: int
    read_bytes_per_second: float
    read_bytes_per_second_one_thread: float
    copy_bytes_per_second: float
    operations_per_second: tuple[tuple[str, float], ...]
    operations_per_second_one_thread: tuple[tuple[str, float], ...]
    launch_seconds: float

    def peaks(self) -> dict[str, float]:
        """Operations per second by dtype, all threads."""
        return dict(self.operations_per_second)


def fingerprint_of(facts: DeviceFacts, *, num_threads: int) -> str:
    """Name a device by what decides its speed; another chip or thread count, another name."""
    text = json.dumps([facts.uuid, facts.model, facts.cores, facts.features, num_threads])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_profile(profile: DeviceProfile, cache_directory: Path) -> Path:
    """Write a profile where `load_profile` finds it.

    Raises:
        StorageFull: the file cannot be written.
    """
    path = _profile_path(cache_directory, profile.fingerprint)
    text = json.dumps({"format": FORMAT_VERSION, **asdict(profile)}, indent=2) + "\n"
    temporary = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StorageFull(
            f"cannot keep the device profile in {path.parent} ({error.strerror}); "
            "free space or set BANYAN_CACHE to another folder"
        ) from error
    return path


def load_profile(fingerprint: str, cache_directory: Path) -> DeviceProfile | None:
    """Read the profile of a device; None where it was never measured or the file is damaged.

    A damaged or older file is not an error: measuring again replaces it.
    """
    path = _profile_path(cache_directory, fingerprint)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _parse_profile(table)


def _parse_profile(table: Any) -> DeviceProfile | None:
    names = {field.name for field in fields(DeviceProfile)}
    if not isinstance(table, dict) or table.pop("format", None) != FORMAT_VERSION:
        return None
    if set(table) != names:
        return None
    try:
        for name in ("operations_per_second", "operations_per_second_one_thread"):
            table[name] = tuple((str(dtype), float(rate)) for dtype, rate in table[name])
    except (TypeError, ValueError):
        return None
    return DeviceProfile(**table)


def _profile_path(cache_directory: Path, fingerprint: str) -> Path:
    return cache_directory / "profiles" / f"{fingerprint}.json"
