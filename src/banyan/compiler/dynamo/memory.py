"""Memory for results that comes back when nobody holds the tensor any more.

A step of training gives the same activations again and again. Fresh pages for each would cost as
much as computing them; these are used again, and lie in huge pages where the system has some.
"""

import math
import weakref
from collections import deque
from typing import final

import numpy as np
import torch

from banyan.devices.host_memory import HostBuffer, allocate_host_memory

SMALLEST_BYTES = 1 << 16
"""Smaller tensors come from PyTorch, whose allocator keeps such sizes itself."""


@final
class ResultMemory:
    """Gives tensors of one size; each lies in memory that an earlier one has left.

    What lies free is never more than what was in use at once: lengths that differ from call to
    call would otherwise each keep memory of their own.
    """

    def __init__(self) -> None:
        self._returned: deque[HostBuffer] = deque()  # filled by finalizers, in any thread
        self._free: deque[HostBuffer] = deque()  # the one returned last is the last
        self._free_bytes, self._used_bytes, self._most_bytes = 0, 0, 0

    @property
    def free_bytes(self) -> int:
        """How much memory waits to be used again."""
        self._take_back()
        return self._free_bytes

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor in row-major order."""
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes < SMALLEST_BYTES:
            return torch.empty(shape, dtype=dtype)
        self._take_back()
        buffer = self._reused(num_bytes) or allocate_host_memory(num_bytes)
        self._used_bytes += num_bytes
        self._most_bytes = max(self._most_bytes, self._used_bytes)
        view = buffer.array(np.dtype(np.uint8), (num_bytes,))
        # The tensor's storage keeps `view` alive, and nothing else does.
        weakref.finalize(view, self._returned.append, buffer).atexit = False
        return torch.from_numpy(view).view(dtype).view(shape)

    def _take_back(self) -> None:
        while self._returned:
            buffer = self._returned.popleft()
            self._used_bytes -= buffer.num_bytes
            self._free_bytes += buffer.num_bytes
            self._free.append(buffer)
        while self._free_bytes > self._most_bytes:
            self._free_bytes -= self._free.popleft().num_bytes

    def _reused(self, num_bytes: int) -> HostBuffer | None:
        for place in reversed(range(len(self._free))):
            buffer = self._free[place]
            if buffer.num_bytes == num_bytes:
                del self._free[place]
                self._free_bytes -= num_bytes
                return buffer
        return None
