"""A device that runs nothing and counts everything.

Tests, the planner and the benchmark's deterministic counters use it: what a model asks of a
device is known without one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from numpy.typing import NDArray

from banyan.devices.device import Buffer, LoadedProgram, Program
from banyan.devices.host_memory import (
    HostBuffer,
    allocate_host_memory,
    copy_from_buffer,
    copy_into_buffer,
)
from banyan.devices.launches import check_launch


@dataclass(frozen=True, slots=True)
class NullCounts:
    """What was asked of a null device since it was made."""

    allocations: int = 0
    bytes_allocated: int = 0
    bytes_copied_in: int = 0
    bytes_copied_out: int = 0
    programs_loaded: int = 0
    launches: int = 0
    bytes_launched_with: int = 0


@dataclass(frozen=True, slots=True)
class NullProgram:
    """A program that was loaded, in name only."""

    program: Program


@final
class NullDevice:
    """Counts bytes and launches; results stay what the memory held before."""

    def __init__(self) -> None:
        self._counts = NullCounts()

    @property
    def name(self) -> str:
        """Always "null"."""
        return "null"

    @property
    def counts(self) -> NullCounts:
        """Everything counted so far."""
        return self._counts

    def allocate(self, num_bytes: int) -> HostBuffer:
        """Give real, zeroed host memory, so that callers may look at it."""
        self._count(allocations=1, bytes_allocated=num_bytes)
        return allocate_host_memory(num_bytes)

    def adopt(self, array: NDArray[Any]) -> HostBuffer:
        """Copy an array, as a device with memory of its own would."""
        buffer = self.allocate(array.nbytes)
        self.copy_in(array, buffer)
        return buffer

    def copy_in(self, source: NDArray[Any], target: Buffer, offset: int = 0) -> None:
        """Copy, and count the bytes."""
        self._count(bytes_copied_in=source.nbytes)
        copy_into_buffer(source, target, offset)

    def copy_out(self, source: Buffer, target: NDArray[Any], offset: int = 0) -> None:
        """Copy, and count the bytes."""
        self._count(bytes_copied_out=target.nbytes)
        copy_from_buffer(source, target, offset)

    def load(self, program: Program) -> NullProgram:
        """Note the program; its image is not opened."""
        self._count(programs_loaded=1)
        return NullProgram(program)

    def launch(
        self, loaded: LoadedProgram, buffers: Sequence[Buffer], symbols: Sequence[int]
    ) -> None:
        """Count a launch and the bytes of its buffers; run nothing."""
        check_launch(loaded.program, buffers, symbols)
        self._count(launches=1, bytes_launched_with=sum(buffer.num_bytes for buffer in buffers))

    def synchronize(self) -> None:
        """Nothing is ever under way."""

    def close(self) -> None:
        """Nothing to give back."""

    def _count(self, **added: int) -> None:
        totals = asdict(self._counts)
        self._counts = NullCounts(
            **{name: total + added.get(name, 0) for name, total in totals.items()}
        )
