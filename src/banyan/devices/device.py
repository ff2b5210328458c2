"""The small interface a chip implements: memory in, program in, results out.

Owns the words `Program`, `Buffer`, `LoadedProgram` and `Device`. Never knows a model or the
compiler. The compiler makes programs, a device runs them; every chip is one file beside this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ALIGNMENT_BYTES = 64
"""Every buffer and every thread's scratch memory starts at a multiple of this: one cache line."""


@dataclass(frozen=True, slots=True)
class Program:
    """Compiled bytes and their entry point; made by the compiler, run by a device.

    Attributes:
        name: what a person calls it.
        target: the printer that made it: "cpp", "interpreter", ...
        image: the shared object on disk; None where there is nothing to load.
        entry: the C symbol to call, for example "banyan_run".
        num_buffers: how many buffers one launch takes.
        num_symbols: how many symbolic integers one launch takes.
        scratch_bytes_per_thread: private memory of each worker thread, 64-byte aligned.
    """

    name: str
    target: str
    image: Path | None
    entry: str
    num_buffers: int
    num_symbols: int
    scratch_bytes_per_thread: int


class Buffer(Protocol):
    """A stretch of a device's memory."""

    @property
    def num_bytes(self) -> int:
        """How many bytes the caller asked for."""
        ...

    @property
    def is_on_host(self) -> bool:
        """Whether `array` can show it; else `copy_in` and `copy_out` are the only way."""
        ...

    def array(self, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
        """Show the first bytes as a NumPy array of `shape`, without copying.

        Raises:
            InputError: the array is larger than the buffer, or the host cannot address this
                memory.
        """
        ...


class LoadedProgram(Protocol):
    """A program that a device holds ready to launch."""

    @property
    def program(self) -> Program:
        """What was loaded."""
        ...


class Device(Protocol):
    """One chip, or the cores of this machine taken as one."""

    @property
    def name(self) -> str:
        """The name a person types: "cpu", "cuda:0", "null"."""
        ...

    def allocate(self, num_bytes: int) -> Buffer:
        """Give `num_bytes` of zeroed memory; it is freed when nothing refers to it any more.

        Raises:
            EnvironmentProblem: the memory cannot be had.
        """
        ...

    def adopt(self, array: NDArray[Any]) -> Buffer:
        """Make a buffer of a contiguous host array: without a copy where the device reads the
        host's memory, else by copying. Writes are seen in `array` only in the first case.
        """
        ...

    def copy_in(self, source: NDArray[Any], target: Buffer, offset: int = 0) -> None:
        """Copy a host array into a buffer, `offset` bytes from its start."""
        ...

    def copy_out(self, source: Buffer, target: NDArray[Any], offset: int = 0) -> None:
        """Copy what lies `offset` bytes from the start of a buffer into a contiguous host array,
        after everything launched before has finished.
        """
        ...

    def load(self, program: Program) -> LoadedProgram:
        """Make a program ready to launch.

        Raises:
            CompilationFailed: its image or its entry cannot be loaded.
        """
        ...

    def launch(
        self, loaded: LoadedProgram, buffers: Sequence[Buffer], symbols: Sequence[int]
    ) -> None:
        """Start a program; `synchronize` waits for it.

        Raises:
            InputError: the number of buffers or symbols is not what the program takes.
            EnvironmentProblem: the program reported a failure.
        """
        ...

    def synchronize(self) -> None:
        """Wait until everything launched is done."""
        ...

    def close(self) -> None:
        """Give back threads and memory. Launching afterwards is an error; closing twice is not."""
        ...
