"""Weights and states of programs that are only timed: what they hold does not change the time."""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import Executable
from banyan.compiler.ir.symbols import fixed
from banyan.compiler.ir.types import DType, TensorType

Array = NDArray[Any]

_BYTES, _NIBBLES = 40.0, 4.6
"""Root mean squares of weights of 8 bits, and of 4 around their middle."""


class AnyWeights:
    """Weights of the right shapes; what they hold does not change the time of a run."""

    def __init__(self, executable: Executable, seed: int = 0) -> None:
        """Take the shapes that a program asks for."""
        self._types = {a.name: a.type for a in executable.inputs if a.role == "weight"}
        self._noise = np.random.default_rng(seed).standard_normal(1 << 20).astype(np.float32)

    def names(self) -> Collection[str]:
        """All that are asked for."""
        return self._types.keys()

    def read(self, name: str) -> Array:
        """An array of the shape asked for; products of rows near 1 with it are near 1 again."""
        kind = self._types[name]
        shape, dtype = _plain_shape(kind), kind.dtype.numpy
        if name.endswith(".scales"):
            weight = self._types[name.removesuffix(".scales") + ".weight"]
            nibbles = weight.dtype is DType.UINT8
            depth = _plain_shape(weight)[-1] * (2 if nibbles else 1)
            return np.full(shape, depth**-0.5 / (_NIBBLES if nibbles else _BYTES), dtype)
        if kind.dtype.is_floating:
            block = self._noise * shape[-1] ** -0.5 if len(shape) > 1 else 1 + 0 * self._noise
            return np.resize(block.astype(dtype), shape)
        block = (_BYTES * self._noise).clip(-127, 127).astype(np.int8)
        return np.resize(block.view(dtype), shape)

    def release(self, name: str) -> None:
        """Nothing is held."""


def fill_states(executable: Executable, num_blocks: int) -> None:
    """Give states memory and write all of it: pages nobody wrote share one that is all zeros."""
    executable.allocate_state({"num_blocks": num_blocks})
    for argument in executable.inputs:
        if argument.role != "state":
            continue
        shape = (num_blocks, *(int(str(size)) for size in argument.type.shape[1:]))
        kind, noise = argument.type.dtype, np.random.default_rng(1).standard_normal(1 << 16)
        if "scales" in argument.name:
            block = np.full(1 << 16, 0.01)
        else:
            block = noise if kind.is_floating else 30 * noise
        as_stored = block.astype(np.int8).view(np.uint8) if kind is DType.UINT8 else block
        executable.write_state(argument.name, np.resize(as_stored.astype(kind.numpy), shape))


def _plain_shape(kind: TensorType) -> tuple[int, ...]:
    return tuple(fixed(size) for size in kind.shape)
