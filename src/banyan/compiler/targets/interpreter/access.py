"""`load` and `store` on NumPy arrays: ranges, gathers, and bounds.

Elements outside the tensor are read as 0 and never written.
"""

import numpy as np

from banyan.compiler.targets.interpreter.arithmetic import Array

Kinds = tuple[str, ...]
Sizes = tuple[int, ...]


def load(pointer: Array, indices: tuple[Array, ...], kinds: Kinds, sizes: Sizes) -> Array:
    """The tile of `pointer` at `indices`; see the list of operations for the three kinds."""
    positions = _positions(indices, kinds, sizes)
    inside = _inside(positions, pointer.shape)
    if inside.size == 0 or 0 in pointer.shape:
        return np.zeros(inside.shape, pointer.dtype)
    clipped = tuple(np.clip(p, 0, n - 1) for p, n in zip(positions, pointer.shape, strict=True))
    return np.where(inside, pointer[clipped], np.zeros((), pointer.dtype))


def store(
    pointer: Array, value: Array, indices: tuple[Array, ...], kinds: Kinds, sizes: Sizes
) -> tuple[()]:
    """Write the tile `value` into `pointer`; a store has no results."""
    if pointer.ndim == 0:
        pointer[()] = value
        return ()
    positions = np.broadcast_arrays(*_positions(indices, kinds, sizes), value)[:-1]
    inside = np.broadcast_to(_inside(tuple(positions), pointer.shape), value.shape)
    pointer[tuple(p[inside] for p in positions)] = value[inside]
    return ()


def _positions(indices: tuple[Array, ...], kinds: Kinds, sizes: Sizes) -> tuple[Array, ...]:
    """For each dim of the pointer its element numbers, shaped to broadcast to the tile."""
    gather_rank = max(
        (i.ndim for i, k in zip(indices, kinds, strict=True) if k == "gather"), default=0
    )
    rank = gather_rank + kinds.count("range")
    positions, next_range = [], gather_rank
    for index, kind, size in zip(indices, kinds, sizes, strict=True):
        if kind == "at":
            positions.append(np.asarray(index).reshape((1,) * rank))
        elif kind == "gather":
            positions.append(index.reshape(index.shape + (1,) * (rank - gather_rank)))
        else:
            shape = [1] * rank
            shape[next_range] = size
            positions.append((int(index) + np.arange(size)).reshape(shape))
            next_range += 1
    return tuple(positions)


def _inside(positions: tuple[Array, ...], shape: tuple[int, ...]) -> Array:
    inside: Array = np.asarray(True)
    for position, size in zip(positions, shape, strict=True):
        inside = inside & (position >= 0) & (position < size)
    return inside
