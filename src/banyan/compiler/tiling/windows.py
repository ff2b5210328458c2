"""Windows: which part of a whole tensor a tile holds.

A window has one entry for each dim of the tensor:
    At    one index, a scalar; the dim disappears from the tile
    Span  `size` neighbours from `start`; the dim stays
    Each  an integer tile [n]; all such dims move together and come first in the tile
These are the three kinds of index that `load` and `store` know.
"""

from dataclasses import dataclass
from typing import TypeAlias

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.tiling.indices import Indices, known


@dataclass(frozen=True, slots=True)
class At:
    """One index."""

    index: Node


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbours; `divisible` marks the axis of the kernel's own result, which may be cut."""

    start: Node
    size: Dim
    divisible: bool = False


@dataclass(frozen=True, slots=True)
class Each:
    """A list of indices."""

    index: Node


Entry: TypeAlias = At | Span | Each
Window: TypeAlias = tuple[Entry, ...]


class CannotPull(Exception):
    """A node cannot be computed inside this kernel; it needs memory of its own."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.op)
        self.node = node


class MustCut(Exception):
    """The kernel's row is made of parts; `offsets` are the borders inside the asked span."""

    def __init__(self, offsets: tuple[int, ...]) -> None:
        super().__init__(str(offsets))
        self.offsets = offsets


def whole(indices: Indices, size: Dim) -> Span:
    """All of a dim."""
    return Span(indices.number(0), size)


def is_whole(entry: Entry, size: Dim) -> bool:
    """Does the entry cover the dim exactly?"""
    return isinstance(entry, Span) and known(entry.start) == 0 and entry.size == size


def labels(window: Window) -> list[int | str]:
    """What each dim of the tile is: "each", then the numbers of the spanned dims."""
    gathered: list[int | str] = ["each"] if any(isinstance(e, Each) for e in window) else []
    return [*gathered, *(i for i, e in enumerate(window) if isinstance(e, Span))]


def tile_shape(window: Window) -> tuple[Dim, ...]:
    """The shape of the tile."""
    gathered = [e.index.shape for e in window if isinstance(e, Each)]
    spans = tuple(e.size for e in window if isinstance(e, Span))
    return (*(gathered[0] if gathered else ()), *spans)


def as_lanes(indices: Indices, window: Window, node: Node) -> Window:
    """The same elements with one index list for each dim, in row-major order of the tile.

    Of a span of one element beside others, the index is a number.

    Raises:
        CannotPull: the window already mixes lists and spans.
    """
    spans = [e for e in window if isinstance(e, Span)]
    if not spans:
        return window
    if any(isinstance(e, Each) for e in window):
        raise CannotPull(node)
    sizes = tuple(span.size for span in spans)
    steps = iter(indices.unflatten(indices.count(product(sizes)), sizes))
    lanes: list[Entry] = []
    for entry in window:
        if isinstance(entry, Span):
            lanes.append(entry_for(indices.add(next(steps), entry.start)))
        else:
            lanes.append(entry)
    return tuple(lanes)


def index_of(entry: Entry) -> Node:
    """The index of an entry that is no span."""
    if isinstance(entry, Span):
        raise TypeError("a span has no single index")
    return entry.index


def entry_for(index: Node) -> Entry:
    """At for a scalar, Each for a tile."""
    return At(index) if index.shape == () else Each(index)
