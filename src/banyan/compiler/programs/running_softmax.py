"""The loop that all attention programs share: keys in steps, softmax on the run.

After Milakov and Gimelshein (2018, arXiv:1805.02867): `top` is the largest score so far, `total`
the sum of exponentials, `sums` the weighted values, all float32. Steps hold a fixed number of keys
counted from the start of the sequence, so that no result depends on how queries are cut into tiles.
"""

from collections.abc import Sequence
from typing import Protocol

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType
from banyan.compiler.tiling.tiles import Tiles

BLOCK = 16
MOST_ROWS = 48
"""Rows of a query tile: whole groups of rows of every micro-kernel, and their sums stay near."""
HIDDEN = float("-inf")


class Source(Protocol):
    """Where keys and values lie, and which of them a row sees."""

    def numbers(self, step: Node) -> Node:
        """The places of the blocks of a step; -1 is nowhere."""
        ...

    def scores(self, numbers: Node, step: Node, *, is_edge: bool) -> Node:
        """Scaled products [rows, keys] of all rows with the keys of a step.

        Keys out of sight get `HIDDEN`; unless `is_edge` every row sees every key.
        """
        ...

    def weighted(self, weights: Node, numbers: Node) -> Node:
        """Weights [rows, keys] times the values of a step, in float32."""
        ...


def attend(
    tiles: Tiles,
    sources: Sequence[Source],
    steps: tuple[Node, Node, Node],
    shape: tuple[Dim, int],
) -> list[tuple[Node, Node]]:
    """Weighted means of the values, float32 [rows, size], and the logs of the sums of exponentials.

    Args:
        tiles: writes the nodes.
        sources: keys and values of each head, all in the same blocks; they take turns.
        steps: the first step, the first where some row does not see all keys, and the end.
        shape: rows and size of a value.

    Rows that see nothing become zeros.
    """
    empty = [
        tiles.fill(HIDDEN, DType.FLOAT32, shape[:1]),
        tiles.fill(0, DType.FLOAT32, shape[:1]),
        tiles.fill(0, DType.FLOAT32, shape),
    ]

    def step_of(step: Node, carried: list[Node], *, is_edge: bool) -> list[Node]:
        numbers, *states = carried
        found: list[Node] = []
        for i, source in enumerate(sources):
            scores = source.scores(numbers, step, is_edge=is_edge)
            of_source = states[len(empty) * i : len(empty) * (i + 1)]
            found += _seen(tiles, source, numbers, scores, of_source)
        following = sources[0].numbers(tiles.indices.add(step, tiles.indices.number(1)))
        return [following, *found]

    first, edge, stop = steps
    state = [sources[0].numbers(first), *(empty * len(sources))]
    state = tiles.range(first, edge, state, lambda s, *c: step_of(s, list(c), is_edge=False))
    state = tiles.range(edge, stop, state, lambda s, *c: step_of(s, list(c), is_edge=True))
    return [mean_of(tiles, state[i : i + len(empty)]) for i in range(1, len(state), len(empty))]


def _seen(
    tiles: Tiles, source: Source, numbers: Node, scores: Node, state: list[Node]
) -> list[Node]:
    """The state after the scores of one more step."""
    add = tiles.add
    top, total, sums = state
    rows, size = sums.shape
    highest = add("max", top, along_row(tiles, scores, "max"))
    # A row that saw nothing yet has no largest score; -inf minus itself would be NaN.
    nothing = add("eq", highest, tiles.fill(HIDDEN, DType.FLOAT32, ()))
    base = add("where", nothing, tiles.fill(0, DType.FLOAT32, (rows,)), highest)
    weights = add("exp", add("sub", scores, tiles.columns(base, scores.shape[1])))
    fade = add("exp", add("sub", top, base))
    new_total = add("add", add("mul", total, fade), along_row(tiles, weights, "sum"))
    faded = add("mul", sums, tiles.columns(fade, size))
    return [highest, new_total, add("add", faded, source.weighted(weights, numbers))]


def mean_of(tiles: Tiles, state: list[Node]) -> tuple[Node, Node]:
    """Weighted means and logs of the sums of exponentials from (largest, sum, weighted sums)."""
    add = tiles.add
    top, total, sums = state
    is_empty = add("eq", total, tiles.fill(0, DType.FLOAT32, ()))
    divisor = add("where", is_empty, tiles.fill(1, DType.FLOAT32, total.shape), total)
    mean = add("div", sums, tiles.columns(divisor, sums.shape[-1]))
    return mean, add("add", top, add("log", divisor))


def along_row(tiles: Tiles, tile: Node, kind: str) -> Node:
    """Reduce the columns of a tile."""
    return tiles.builder.add("reduce", (tile,), axes=(1,), kind=kind)


def product_with_keys(tiles: Tiles, rows: Node, blocks: Node) -> Node:
    """Rows [R, D] times key blocks [n, D/p, 16, p] side by side: [R, n * 16]."""
    count, lines, width, pack = blocks.shape
    turned = tiles.builder.add("permute", (blocks,), order=(1, 0, 2, 3))
    packed = tiles.reshaped(turned, (lines, count * width, pack))
    return tiles.builder.add("dot", (rows, packed), packed=True, dtype=DType.FLOAT32)


def product_with_values(tiles: Tiles, weights: Node, blocks: Node) -> Node:
    """Weights [R, n * 16] times value blocks [n, 16/p, D, p] one after the other: [R, D]."""
    count, lines, width, pack = blocks.shape
    packed = tiles.reshaped(blocks, (count * lines, width, pack))
    narrow = tiles.cast(weights, blocks.dtype)
    return tiles.builder.add("dot", (narrow, packed), packed=True, dtype=DType.FLOAT32)


def fixed(size: Dim) -> int:
    """A size that is a number."""
    if not isinstance(size, int):
        raise TypeError("counts and sizes of heads are fixed")
    return size
