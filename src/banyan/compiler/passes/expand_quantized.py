"""Quantised linear layers become products with the weights they stand for.

For targets that have no kernel of their own for a weight format. Integers and 8-bit floats are
exact in every floating type, so a layer with one scale for each row multiplies them as they are and
scales the sums; other layers scale the weight first, rounded to the type of the activations.
"""

from collections.abc import Collection

from banyan.compiler.ir.attributes import integer
from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import Rule, any_of, rewrite_graph
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType

ROUNDING = 12_582_912.0
"""1.5 * 2**23: adding and taking away rounds small float32 numbers to whole ones, half to even."""

MIDDLE = 8
"""The zero of 4-bit weights that carry none."""


def expand_quantized(graph: Graph, kept: Collection[str] = ()) -> Graph:
    """Write out `quantized_linear` nodes, except of the formats `kept`, and `unpack`."""

    def linear(builder: Builder, root: Node) -> Node | None:
        return None if root.attr("format") in kept else _linear(builder, root)

    def unpack(builder: Builder, root: Node) -> Node:
        return _unpacked(builder, root.args[0])

    rules = (
        Rule("write out quantised linear", any_of("quantized_linear"), linear),
        Rule("write out unpack", any_of("unpack"), unpack),
    )
    return rewrite_graph(graph, rules)


def _linear(builder: Builder, root: Node) -> Node:
    x, weight, scales = root.args[:3]
    kind, depth = x.dtype, x.shape[-1]
    x = builder.reshape(x, (product(x.shape[:-1]), depth))
    step = None
    if root.attr("activation") == "int8":
        x, step = _quantized_rows(builder, x, kind)
    numbers = _numbers(builder, root, weight)
    by_row = scales.shape == (weight.shape[0], 1)
    if not by_row:
        numbers = builder.add("mul", (numbers, _spread(builder, root, scales, numbers.shape)))
    factors = x, builder.cast(numbers, kind)
    sums = builder.add("dot", factors, transpose_b=True, dtype=DType.FLOAT32)
    if by_row:
        columns = builder.reshape(scales, (weight.shape[0],))
        sums = builder.add("mul", (sums, builder.expand(columns, sums.shape)))
    if step is not None:
        sums = builder.add("mul", (sums, builder.expand(step, sums.shape)))
    return builder.reshape(builder.cast(sums, root.dtype), root.shape)


def _numbers(builder: Builder, root: Node, weight: Node) -> Node:
    """The weight [N, K] float32 before its scales, zeros taken away."""
    if root.attr("format") != "int4":
        return builder.cast(weight, DType.FLOAT32)
    numbers = builder.cast(_unpacked(builder, weight), DType.FLOAT32)
    middle = builder.number(MIDDLE, DType.FLOAT32, numbers.shape)
    if len(root.args) > 3:
        zeros = builder.cast(root.args[3], DType.FLOAT32)
        middle = _spread(builder, root, zeros, numbers.shape)
    return builder.add("sub", (numbers, middle))


def _spread(builder: Builder, root: Node, blocks: Node, shape: tuple[Dim, ...]) -> Node:
    """One number for each block of `rows` times `group` weights, repeated to [N, K]."""
    rows = integer(root, "rows") if "rows" in dict(root.attrs) else 1
    group = integer(root, "group")
    down, across = blocks.shape
    cells = builder.reshape(blocks, (down, 1, across, 1))
    grown = builder.expand(cells, (down, rows, across, group))
    return builder.first_places(builder.reshape(grown, (down * rows, across * group)), shape)


def _quantized_rows(builder: Builder, x: Node, kind: DType) -> tuple[Node, Node]:
    """Whole numbers as `kind`, and the step [M, 1] float32 of each row."""

    def number(value: float, like: Node) -> Node:
        return builder.number(value, DType.FLOAT32, like.shape)

    wide = builder.cast(x, DType.FLOAT32)
    largest = builder.add("reduce", (builder.add("abs", (wide,)),), axes=(1,), kind="max")
    largest = builder.reshape(largest, (x.shape[0], 1))
    step = builder.add("div", (largest, number(127, largest)))
    nothing = builder.add("eq", (largest, number(0, largest)))
    step = builder.add("where", (nothing, number(1, step), step))
    scaled = builder.add("div", (wide, builder.expand(step, wide.shape)))
    rounding = number(ROUNDING, wide)
    whole = builder.add("sub", (builder.add("add", (scaled, rounding)), rounding))
    return builder.cast(whole, kind), step


def _unpacked(builder: Builder, packed: Node) -> Node:
    """Each byte stands twice, divided by 1 and by 16; the low 4 bits are the values."""

    def number(value: int, *shape: Dim) -> Node:
        return builder.number(value, DType.UINT8, shape)

    shape = (*packed.shape, 2)
    twice = builder.expand(builder.reshape(packed, (*packed.shape, 1)), shape)
    place = builder.add("iota", size=2, dtype=DType.UINT8)
    steps = builder.add("mul", (place, number(15, 2)))
    divisor = builder.expand(builder.add("add", (steps, number(1, 2))), shape)
    low = builder.add("and", (builder.add("floordiv", (twice, divisor)), number(15, *shape)))
    return builder.reshape(low, (*packed.shape[:-1], packed.shape[-1] * 2))
