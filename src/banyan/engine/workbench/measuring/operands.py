"""Operands of measured programs: weights, caches and steps whose values have no say in the time.

Values are near 1 all along a chain: numbers that overflow, or are too small for ordinary
arithmetic, take another time.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import Argument, Executable
from banyan.compiler.ir.cached import CACHE_BLOCK
from banyan.compiler.ir.symbols import fixed
from banyan.compiler.ir.types import DType

Array = NDArray[Any]

_LARGEST = {DType.INT8: 127, DType.UINT8: 255}
_SPREAD = {DType.INT8: 73.6, DType.UINT8: 4.6}
"""Root mean square of uniform numbers: of bytes, and of half bytes around their middle."""


class RandomWeights:
    """A source of weights: one array for every shape and type, under every name of a program."""

    def __init__(self, executable: Executable) -> None:
        """Take the program that asks."""
        self._wanted = {a.name: a for a in executable.inputs if a.role == "weight"}
        self._made: dict[tuple[tuple[Any, ...], DType], Array] = {}

    def names(self) -> Collection[str]:
        """Every weight of the program."""
        return self._wanted

    def read(self, name: str) -> Array:
        """A matrix or its scales; a product of rows near 1 with them is near 1 again."""
        argument = self._wanted[name]
        key = argument.type.shape, argument.type.dtype
        if key not in self._made:
            self._made[key] = self._make(argument)
        return self._made[key]

    def release(self, name: str) -> None:
        """Kept for the next of its shape."""

    def _make(self, argument: Argument) -> Array:
        shape = fixed_shape(argument)
        random, dtype = np.random.default_rng(0), argument.type.dtype
        if len(shape) == 1:
            return np.ones(shape, dtype.numpy)
        if argument.name.endswith(".scales"):
            weight = self._wanted[argument.name.removesuffix(".scales")]
            stored, (_, width) = weight.type.dtype, fixed_shape(weight)
            depth = width * (2 if stored is DType.UINT8 else 1)
            return np.full(shape, depth**-0.5 / _SPREAD[stored], dtype.numpy)
        if dtype in _LARGEST:
            least = -_LARGEST[dtype] if dtype is DType.INT8 else 0
            return random.integers(least, _LARGEST[dtype] + 1, shape).astype(dtype.numpy)
        normal = random.standard_normal(shape, np.float32)
        scaled: Array = (normal * shape[-1] ** -0.5).astype(dtype.numpy)
        return scaled


def fixed_shape(argument: Argument) -> tuple[int, ...]:
    """The shape of an argument without symbols."""
    return tuple(fixed(size) for size in argument.type.shape)


def fill_caches(executable: Executable, num_blocks: int) -> None:
    """Give every cache `num_blocks` blocks and write them, so that each page is its own memory."""
    executable.allocate_state({"num_blocks": num_blocks})
    random = np.random.default_rng(1)
    made: dict[tuple[tuple[Any, ...], DType], Array] = {}
    for argument in executable.inputs:
        if argument.role != "state":
            continue
        shape = tuple(map(fixed, argument.type.shape[1:]))
        key = shape, argument.type.dtype
        if key not in made:
            made[key] = _cache_part(random, shape, argument)
        for block in range(num_blocks):
            executable.write_state_part(argument.name, block, made[key])


def _cache_part(random: np.random.Generator, shape: tuple[int, ...], argument: Argument) -> Array:
    dtype = argument.type.dtype
    if "scales" in argument.name:
        return np.full(shape, 0.01, np.float32)
    if dtype in _LARGEST:
        return random.integers(-100, 100, shape).astype(np.int8).view(dtype.numpy)
    return random.standard_normal(shape, np.float32).astype(dtype.numpy)


def attention_step(
    *, new: int, context: int, sequences: int, first_block: int, num_blocks: int
) -> dict[str, Array]:
    """Tables, starts and lengths of a step: `new` tokens each, of `context` in the cache.

    Blocks are taken in order from `first_block` on, around the end of `num_blocks`, so that
    following runs read other memory.
    """
    columns = -(-context // CACHE_BLOCK)
    blocks = (first_block + np.arange(sequences * columns)) % num_blocks
    return {
        "tables": blocks.reshape(sequences, columns).astype(np.int32),
        "starts": (np.arange(sequences + 1) * new).astype(np.int32),
        "lengths": np.full(sequences, context, np.int32),
    }
