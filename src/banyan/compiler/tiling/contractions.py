"""Products of tiles whose contracted dim is taken at once or in pieces."""

from collections.abc import Callable

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import Span, whole

Factors = Callable[[Span], tuple[Node, Node]]
"""Left and right tile over a stretch of the contracted dim."""


def contract(
    tiles: Tiles,
    factors: Factors,
    depth: Dim,
    piece: int | None,
    *,
    shape: tuple[Dim, ...],
    dtype: DType,
    transpose_b: bool,
) -> Node:
    """The product [rows, columns] = `shape` over `depth`, summed `piece` elements at a time."""

    def product(span: Span, wide: DType) -> Node:
        left, right = factors(span)
        return left.apply("dot", right, transpose_b=transpose_b, dtype=wide)

    if piece is None or upper_bound(depth) <= piece:
        return product(whole(tiles.indices, depth), dtype)
    zero = tiles.fill(0, DType.FLOAT32, shape)
    _, (total,) = tiles.pieces(
        depth, piece, [zero], lambda span, total: [total + product(span, DType.FLOAT32)]
    )
    return total.cast(dtype)
