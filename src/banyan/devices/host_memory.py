"""Memory of the host as buffers: zeroed, aligned, and asked for in huge pages.

Owns how the CPU's buffers come to be. Called by the CPU device and by measurements.
"""

import ctypes
import math
import mmap
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from banyan.devices.device import ALIGNMENT_BYTES, Buffer
from banyan.foundation.errors import EnvironmentProblem, InputError

HUGE_PAGE_BYTES = 2 * 1024 * 1024


@final
class HostBuffer:
    """Bytes that the host can address; holds its memory alive, and no longer."""

    __slots__ = ("_address", "_bytes")

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self._bytes = memory
        self._address = int(memory.ctypes.data)

    @property
    def num_bytes(self) -> int:
        """How many bytes the caller asked for."""
        return self._bytes.nbytes

    @property
    def is_on_host(self) -> bool:
        """Always: this is memory of the host."""
        return True

    @property
    def address(self) -> int:
        """Where the first byte lies in this process."""
        return self._address

    def array(self, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
        """Show the first bytes as a NumPy array of `shape`, without copying."""
        wanted = math.prod(shape) * dtype.itemsize
        if wanted > self.num_bytes:
            raise InputError(
                f"an array of shape {tuple(shape)} and type {dtype} needs {wanted} bytes, "
                f"the buffer has {self.num_bytes}"
            )
        return self._bytes[:wanted].view(dtype).reshape(tuple(shape))


@final
class BorrowedBuffer:
    """Memory of the host that somebody else owns and keeps alive while it is used."""

    __slots__ = ("address", "num_bytes")

    def __init__(self, address: int, num_bytes: int) -> None:
        self.address = address
        self.num_bytes = num_bytes

    @property
    def is_on_host(self) -> bool:
        """Always: this is memory of the host."""
        return True

    def array(self, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
        """Show the first bytes as a NumPy array of `shape`, without copying."""
        count = math.prod(shape)
        if count == 0:
            return np.empty(tuple(shape), dtype)
        memory = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(self.address)
        whole: NDArray[np.uint8] = np.ctypeslib.as_array(memory)
        return whole.view(dtype).reshape(tuple(shape))


def copy_into_buffer(source: NDArray[Any], target: Buffer, offset: int) -> None:
    """Copy an array to `offset` bytes from the start of a buffer the host can address.

    Raises:
        InputError: it does not fit.
    """
    np.copyto(_part(target, source.dtype, source.shape, offset), source)


def copy_from_buffer(source: Buffer, target: NDArray[Any], offset: int) -> None:
    """Copy what lies `offset` bytes from the start of such a buffer into an array.

    Raises:
        InputError: the buffer ends before.
    """
    np.copyto(target, _part(source, target.dtype, target.shape, offset))


def _part(
    buffer: Buffer, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int
) -> NDArray[Any]:
    size = math.prod(shape) * dtype.itemsize
    whole = buffer.array(np.dtype(np.uint8), (offset + size,))
    return whole[offset:].view(dtype).reshape(shape)


def allocate_host_memory(num_bytes: int) -> HostBuffer:
    """Map zeroed private memory, page aligned; from 2 MiB on aligned to huge pages and advised so.

    Raises:
        InputError: `num_bytes` is negative.
        EnvironmentProblem: the system refuses.
    """
    if num_bytes < 0:
        raise InputError(f"cannot allocate {num_bytes} bytes; ask for 0 or more")
    huge = num_bytes >= HUGE_PAGE_BYTES
    # One huge page more, so that an aligned start fits whatever address the system picks.
    mapped_bytes = num_bytes + HUGE_PAGE_BYTES if huge else max(num_bytes, 1)
    try:
        mapping = mmap.mmap(-1, mapped_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise EnvironmentProblem(
            f"cannot allocate {num_bytes} bytes of memory ({error}); "
            "free memory or use a smaller model, context or batch"
        ) from error
    memory: NDArray[np.uint8] = np.frombuffer(mapping, dtype=np.uint8)
    if not huge:
        return HostBuffer(memory[:num_bytes])
    _advise_huge_pages(mapping)
    start = -int(memory.ctypes.data) % HUGE_PAGE_BYTES
    return HostBuffer(memory[start : start + num_bytes])


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or a contiguous copy of it."""
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or a copy of it that starts on a cache line."""
    if array.ctypes.data % ALIGNMENT_BYTES == 0:
        return array
    memory = np.empty(array.nbytes + ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def adopt_host_array(array: NDArray[Any]) -> HostBuffer:
    """Make a buffer of a contiguous array, which stays alive with it; no byte is copied.

    Raises:
        InputError: the array is not contiguous.
    """
    if not array.flags.c_contiguous:
        raise InputError(
            f"an array of shape {array.shape} with strides {array.strides} is not contiguous; "
            "pass numpy.ascontiguousarray of it"
        )
    return HostBuffer(array.reshape(-1).view(np.uint8))


def _advise_huge_pages(mapping: mmap.mmap) -> None:
    """Ask for huge pages; a system without them serves small ones, which is only slower."""
    try:
        mapping.madvise(mmap.MADV_HUGEPAGE)
    except (AttributeError, OSError):
        return
