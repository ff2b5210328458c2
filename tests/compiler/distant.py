"""A device whose memory the host cannot address, as an accelerator's: the CPU behind a wall."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from numpy.typing import NDArray

from banyan.devices.device import Buffer, Device, LoadedProgram, Program
from banyan.foundation.errors import InputError


@dataclass(frozen=True, slots=True)
class DistantBuffer:
    """Memory that only copies reach."""

    inner: Buffer

    @property
    def num_bytes(self) -> int:
        return self.inner.num_bytes

    @property
    def is_on_host(self) -> bool:
        return False

    def array(self, dtype: Any, shape: Sequence[int]) -> NDArray[Any]:
        raise InputError("the host cannot address this memory")


@final
class DistantDevice:
    """Runs programs on `inner`; shows none of its memory."""

    def __init__(self, inner: Device) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        return self.inner.name

    def allocate(self, num_bytes: int) -> Buffer:
        return DistantBuffer(self.inner.allocate(num_bytes))

    def adopt(self, array: NDArray[Any]) -> Buffer:
        buffer = self.allocate(array.nbytes)
        self.copy_in(array, buffer)
        return buffer

    def copy_in(self, source: NDArray[Any], target: Buffer, offset: int = 0) -> None:
        self.inner.copy_in(source, _inner(target), offset)

    def copy_out(self, source: Buffer, target: NDArray[Any], offset: int = 0) -> None:
        self.inner.copy_out(_inner(source), target, offset)

    def load(self, program: Program) -> LoadedProgram:
        return self.inner.load(program)

    def launch(
        self, loaded: LoadedProgram, buffers: Sequence[Buffer], symbols: Sequence[int]
    ) -> None:
        self.inner.launch(loaded, [_inner(buffer) for buffer in buffers], symbols)

    def synchronize(self) -> None:
        self.inner.synchronize()

    def close(self) -> None:
        self.inner.close()


def _inner(buffer: Buffer) -> Buffer:
    assert isinstance(buffer, DistantBuffer)
    return buffer.inner
