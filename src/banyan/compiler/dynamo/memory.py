"""Memory for results that comes back when nobody holds the tensor any more.

A step of training gives the same activations again and again. Fresh pages for each would cost as
much as computing them; these are used again, and lie in huge pages where the system has some.
"""

import math
import weakref
from typing import final

import numpy as np
import torch

from banyan.devices.host_memory import HostBuffer, allocate_host_memory

SMALLEST_BYTES = 1 << 16
"""Smaller tensors come from PyTorch, whose allocator keeps such sizes itself."""


@final
class ResultMemory:
    """Gives tensors of one size; each lies in memory that an earlier one has left."""

    def __init__(self) -> None:
        self._free: dict[int, list[HostBuffer]] = {}

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor in row-major order."""
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes < SMALLEST_BYTES:
            return torch.empty(shape, dtype=dtype)
        free = self._free.setdefault(num_bytes, [])
        buffer = free.pop() if free else allocate_host_memory(num_bytes)
        view = buffer.array(np.dtype(np.uint8), (num_bytes,))
        # The tensor's storage keeps `view` alive, and nothing else does.
        weakref.finalize(view, free.append, buffer).atexit = False
        return torch.from_numpy(view).view(dtype).view(shape)
