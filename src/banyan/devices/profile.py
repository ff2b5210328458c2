"""What a device was measured to do, kept on disk.

A profile is measured once per device (`banyan devices --measure`) and read by everything that
predicts. Owns the file format; measures nothing. Ceilings come from `devices.measure` in seconds;
the rates of compiled programs from `engine.workbench.measuring` in minutes.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from banyan.devices.chip import DeviceFacts
from banyan.devices.rates import DecodeRate, LinearRate, PrefillRate, RowRate
from banyan.foundation.errors import StorageFull

FORMAT_VERSION = 2
"""Files of another version count as never measured."""


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
        copy_bytes_per_second: host to device; on a CPU the same as reading, or, where programs were
            measured, from memory to memory, counted once.
        operations_per_second: dtype -> multiplications and additions, all threads: of a CPU what
            its instructions can reach, of others the most that a linear layer reached.
        operations_per_second_one_thread: the same with one thread; empty where there are none.
        launch_seconds: what starting an empty program costs.
        device: the name a person types: "cpu", "opencl:0".
        copy_back_bytes_per_second: device to host; 0 where programs were not measured.
        copy_seconds: what copying 64 bytes to the device costs; 0 where programs were not measured.
        kernel_seconds: what one more kernel in a program costs beside its work: starting the
            threads and waiting for the last; 0 where programs were not measured.
        read_rates: (threads, bytes per second) of reading memory with 1, 2, 4, ... all threads;
            empty for a device that decides about its threads itself.
        linear_rates: linear layers by weight format and rows, rows growing within a format.
        decode_rates: attention of single tokens by cache format, sequences and context.
        prefill_rates: attention of prompts by cache format, tokens and context.
        row_rates: sums and norms of rows between products, by rows.

    The last four are empty where only ceilings were measured; see `has_programs`.
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
    device: str = "cpu"
    copy_back_bytes_per_second: float = 0.0
    copy_seconds: float = 0.0
    kernel_seconds: float = 0.0
    read_rates: tuple[tuple[int, float], ...] = ()
    linear_rates: tuple[LinearRate, ...] = ()
    decode_rates: tuple[DecodeRate, ...] = ()
    prefill_rates: tuple[PrefillRate, ...] = ()
    row_rates: tuple[RowRate, ...] = ()

    @property
    def has_programs(self) -> bool:
        """Were compiled programs measured, or ceilings only?"""
        return bool(self.linear_rates)

    def linear(self, weights: str) -> tuple[LinearRate, ...]:
        """The linear layers of one weight format, fewest rows first; empty where not measured."""
        found = (rate for rate in self.linear_rates if rate.weights == weights)
        return tuple(sorted(found, key=lambda rate: rate.rows))

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
    """The profile in a file's values; None unless every field is there, of its type and sound."""
    if not isinstance(table, dict) or table.pop("format", None) != FORMAT_VERSION:
        return None
    if set(table) != {field.name for field in fields(DeviceProfile)}:
        return None
    try:
        return msgspec.convert(table, DeviceProfile)
    except msgspec.ValidationError:
        return None


def _profile_path(cache_directory: Path, fingerprint: str) -> Path:
    return cache_directory / "profiles" / f"{fingerprint}.json"
