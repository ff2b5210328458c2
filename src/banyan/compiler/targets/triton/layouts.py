"""How a tile of any shape lies in a Triton block, whose sizes are powers of two.

Each dim of a tile is stored as a list of axes, the last one fastest. A dim of 7 elements is one
axis padded to 8. A dim that came from merging [16, 7] keeps both axes, (16, 16) and (7, 8), so
that merging and splitting move no data; an inner axis without padding needs none of its own. A dim
without axes has one element, or the same value all along, and grows when it meets another value.
What lies in the padding is arbitrary.
"""

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from banyan.compiler.ir.symbols import Dim, lower_bound, product, strides, upper_bound


@dataclass(frozen=True, slots=True)
class Axis:
    """`size` elements in `padded` places."""

    size: Dim
    padded: int


Axes: TypeAlias = tuple[Axis, ...]
Layout: TypeAlias = tuple[Axes, ...]


def plain(size: Dim, least: int = 2) -> Axes:
    """One axis with the smallest power of two of places; none for one element."""
    largest = upper_bound(size)
    if largest == 1 and lower_bound(size) == 1:
        return ()
    return (Axis(size, max(least, 1 << max(largest - 1, 0).bit_length())),)


def places(axes: Axes) -> int:
    """How many places the axes take."""
    return prod(axis.padded for axis in axes)


def axis_strides(axes: Axes) -> tuple[Dim, ...]:
    """How many elements of the dim lie between neighbours of each axis."""
    return strides(tuple(axis.size for axis in axes))


def merged(left: Axes, right: Axes) -> Axes | None:
    """The axes of a dim that meets itself in another layout; None when they differ."""
    if not left or not right or left == right:
        return left or right
    return None


def joined(axes: Axes) -> Axes:
    """The same places with as few axes as can tell them."""
    found: list[Axis] = []
    for axis in axes:
        if found and axis.size == axis.padded:
            outer = found.pop()
            found.append(Axis(outer.size * axis.size, outer.padded * axis.padded))
        else:
            found.append(axis)
    return tuple(found)


def reshaped(layout: Layout, shape: tuple[Dim, ...]) -> Layout | None:
    """The same places seen as a tile of `shape`; None when elements would have to move.

    Every dim of more than one element must have axes.
    """
    pending = [axis for axes in layout for axis in axes]
    found: list[Axes] = []
    for size in shape:
        taken: list[Axis] = []
        while plain(size) and product(tuple(axis.size for axis in taken)) != size:
            if not pending:
                return None
            axis = pending.pop(0)
            have = product((*(a.size for a in taken), axis.size))
            if have != size and upper_bound(have) >= upper_bound(size):
                split = _split(axis, size) if not taken else None
                if split is None:
                    return None
                axis, rest = split
                pending.insert(0, rest)
            taken.append(axis)
        found.append(joined(tuple(taken)))
    return None if pending else tuple(found)


def _split(axis: Axis, leading: Dim) -> tuple[Axis, Axis] | None:
    """The axis as `leading` lines of a power of two of elements each."""
    inner = upper_bound(axis.size) // max(upper_bound(leading), 1)
    if inner < 1 or inner & (inner - 1) or leading * inner != axis.size or axis.padded % inner:
        return None
    return Axis(leading, axis.padded // inner), Axis(inner, inner)
