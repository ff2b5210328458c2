"""Notes when each kernel of a program on the CPU begins and ends; see `native/recorder.cpp`.

Give one to `CpuDevice.record`, run a program, read `launches`. The cost is two clock readings for
each kernel, about 50 ns.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from banyan.devices.native import OPTIMISED_FLAGS, Compiler, build_shared_object

NATIVE_DIRECTORY = Path(__file__).parent / "native"
MOST_LAUNCHES = 1 << 16


@dataclass(frozen=True, slots=True)
class LaunchTime:
    """One kernel launch: nanoseconds of a steady clock."""

    begin: int
    end: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.begin) / 1e9


@final
class LaunchRecorder:
    """Collects the launches of everything run since the last `clear`, in order."""

    def __init__(self, cache_directory: Path, compiler: Compiler | None = None) -> None:
        """Build the native part, or find the one built before.

        Raises:
            CompilerMissing: there is no C++ compiler.
        """
        source = (NATIVE_DIRECTORY / "recorder.cpp").read_text(encoding="utf-8")
        built = build_shared_object(
            source,
            flags=OPTIMISED_FLAGS,
            cache_directory=cache_directory,
            name="recorder",
            include_directories=(NATIVE_DIRECTORY,),
            compiler=compiler,
        )
        self._library = ctypes.CDLL(str(built.path))
        self._library.banyan_record.restype = ctypes.c_int32
        self._times = (ctypes.c_int64 * (2 * MOST_LAUNCHES))()
        self.launches: list[LaunchTime] = []

    def invoke(self, entry: Any, runtime: int, addresses: Any, values: Any) -> int:
        """Call a program's entry and note its launches; returns the program's code."""
        count = ctypes.c_int64()
        code: int = self._library.banyan_record(
            entry,
            ctypes.c_void_p(runtime),
            addresses,
            values,
            self._times,
            ctypes.c_int64(MOST_LAUNCHES),
            ctypes.byref(count),
        )
        noted = min(count.value, MOST_LAUNCHES)
        self.launches += [
            LaunchTime(self._times[2 * i], self._times[2 * i + 1]) for i in range(noted)
        ]
        return code

    def clear(self) -> None:
        """Forget what was noted."""
        self.launches = []
