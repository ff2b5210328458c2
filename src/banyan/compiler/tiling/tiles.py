"""The words in which bodies of kernels are written: numbers, reads, writes, loops."""

from collections.abc import Callable
from dataclasses import dataclass, field

from banyan.compiler.ir.graph import Builder, Node, Region, scalar_type
from banyan.compiler.ir.symbols import Dim, symbol, upper_bound
from banyan.compiler.ir.types import DType, Space, TupleType
from banyan.compiler.tiling.indices import Indices
from banyan.compiler.tiling.windows import At, Each, Span, Window, whole


@dataclass(slots=True)
class Tiles:
    """Writes nodes of tile space through one builder.

    Attributes:
        builder: makes the nodes.
        num_pieces: axes cut into pieces so far, for their names.
    """

    builder: Builder
    num_pieces: int = field(default=0, init=False, kw_only=True)

    @property
    def indices(self) -> Indices:
        """Writes index arithmetic."""
        return Indices(self.builder)

    def parameter(self) -> Node:
        """A fresh grid index."""
        return self.builder.parameter(scalar_type(DType.INT64))

    def add(self, op: str, *args: Node) -> Node:
        """A pointwise node; scalars grow to the shape of the others."""
        shape = max((arg.shape for arg in args), key=len)
        return self.builder.add(op, [self.grown(a, shape) if not a.shape else a for a in args])

    def cast(self, tile: Node, dtype: DType) -> Node:
        """The tile with another element type."""
        return tile.cast(dtype)

    def columns(self, tile: Node, width: Dim) -> Node:
        """A tile [n] repeated as [n, width]."""
        return tile.reshape((*tile.shape, 1)).expand((*tile.shape, width))

    def rows(self, tile: Node, height: Dim) -> Node:
        """A tile [n] repeated as [height, n]."""
        return self.grown(tile, (height, *tile.shape))

    def read(self, pointer: Node, window: Window) -> Node:
        """Load a window; elements outside the tensor are 0."""
        kinds, sizes, where = access(window)
        return self.builder.add("load", (pointer, *where), index=kinds, sizes=sizes)

    def store(self, pointer: Node, value: Node, window: Window) -> Node:
        """Write a tile; elements outside the tensor are dropped."""
        kinds, sizes, where = access(window)
        return self.builder.add("store", (pointer, value, *where), index=kinds, sizes=sizes)

    def reshaped(self, tile: Node, shape: tuple[Dim, ...]) -> Node:
        """The tile with another shape."""
        return tile.reshape(shape)

    def grown(self, tile: Node, shape: tuple[Dim, ...]) -> Node:
        """The tile expanded to `shape`."""
        return tile.expand(shape)

    def fill(self, value: float, dtype: DType, shape: tuple[Dim, ...]) -> Node:
        """A tile of one number."""
        return self.builder.number(value, dtype, shape, Space.TILE)

    def range(
        self, start: Node, stop: Node, carried: list[Node], body: Callable[..., list[Node]]
    ) -> list[Node]:
        """`loop` from start to stop; `body(index, *carried)` gives the next carried values."""
        index, inner = self.parameter(), self._carried(carried)
        return self._loop(
            (start, stop, *carried), 1, Region((index, *inner), (), tuple(body(index, *inner)))
        )[1]

    def _carried(self, values: list[Node]) -> list[Node]:
        return [self.builder.parameter(value.tensor) for value in values]

    def _loop(self, given: tuple[Node, ...], step: int, body: Region) -> tuple[Node, list[Node]]:
        """A loop and what it carries in the end."""
        loop = self.builder.add("loop", given, step=step, body=body)
        return loop, [loop.apply("get", index=i) for i in range(len(given) - 2)]

    def pieces(
        self, size: Dim, piece: int | None, carried: list[Node], body: Callable[..., list[Node]]
    ) -> tuple[tuple[Node, ...], list[Node]]:
        """Go over an axis of `size` in pieces, or at once where one is enough.

        `body(span, *carried)` gives the new carried values, and stores if it has any. The size of
        the last piece may be smaller, and is then a symbol inside the loop. Gives the effects that
        the kernel must name, and what is carried in the end.
        """
        if piece is None or upper_bound(size) <= piece:
            once = body(whole(self.indices, size), *carried)
            done = tuple(node for node in once if isinstance(node.type, TupleType))
            return done, [node for node in once if node not in done]
        start, inner = self.parameter(), self._carried(carried)
        width, binds = self.rest(size, start, piece)
        results = body(Span(start, width), *inner)
        effects = tuple(node for node in results if isinstance(node.type, TupleType))
        kept = tuple(node for node in results if node not in effects)
        region = Region((start, *inner), (*binds, *effects), kept)
        ends = (self.indices.number(0), self.indices.number(size))
        loop, found = self._loop((*ends, *carried), piece, region)
        return (loop,) if effects else (), found

    def rest(self, size: Dim, start: Node, piece: int) -> tuple[Dim, tuple[Node, ...]]:
        """The elements of the piece at `start` of an axis, and the `bind` that this needs."""
        if isinstance(size, int) and size % piece == 0:
            return piece, ()
        self.num_pieces += 1
        return self.bound_rest(f"piece_{self.num_pieces - 1}", size, start, piece)

    def bound_rest(
        self, name: str, size: Dim, start: Node, piece: int
    ) -> tuple[Dim, tuple[Node, ...]]:
        """What is left of an axis from `start`, at most a piece: a symbol, and its `bind`."""
        left = self.indices.subtract(self.indices.number(size), start)
        count = self.indices.smaller(left, self.indices.number(piece))
        return symbol(name, 1, piece), (count.apply("bind", name=name, minimum=1, maximum=piece),)


def access(window: Window) -> tuple[tuple[str, ...], tuple[Dim, ...], tuple[Node, ...]]:
    """Kinds, sizes and indices of a `load` or `store`."""
    kinds = {At: "at", Span: "range", Each: "gather"}
    sizes = tuple(e.size if isinstance(e, Span) else 1 for e in window)
    where = tuple(e.start if isinstance(e, Span) else e.index for e in window)
    return tuple(kinds[type(e)] for e in window), sizes, where
