"""Quantised linear layers become products with the weights they stand for.

For targets that have no kernel of their own for a weight format. Integers and 8-bit floats are
exact in every floating type, so a layer with one scale for each row multiplies them as they are and
scales the sums; other layers scale the weight first, rounded to the type of the activations.
"""

from collections.abc import Collection

from banyan.compiler.ir.attributes import integer
from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import Captures, Pattern, Rule, rewrite_graph
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType

ROUNDING = 12_582_912.0
"""1.5 * 2**23: adding and taking away rounds small float32 numbers to whole ones, half to even."""

MIDDLE = 8
"""The zero of 4-bit weights that carry none."""


def expand_quantized(graph: Graph, kept: Collection[str] = ()) -> Graph:
    """Write out `quantized_linear` nodes, except of the formats `kept`, and `unpack`."""

    def linear(builder: Builder, found: Captures) -> Node | None:
        root = found["root"]
        return None if root.attr("format") in kept else _linear(builder, root)

    rules = (
        Rule(
            "write out quantised linear",
            Pattern(frozenset({"quantized_linear"}), None, "root"),
            linear,
        ),
        Rule("write out unpack", Pattern(frozenset({"unpack"}), None, "root"), _unpack),
    )
    return rewrite_graph(graph, rules)


def _linear(builder: Builder, root: Node) -> Node:
    x, weight, scales = root.args[:3]
    kind, depth = x.dtype, x.shape[-1]
    x = builder.add("reshape", (x,), shape=(product(x.shape[:-1]), depth))
    step = None
    if root.attr("activation") == "int8":
        x, step = _quantized_rows(builder, x, kind)
    numbers = _numbers(builder, root, weight)
    by_row = scales.shape == (weight.shape[0], 1)
    if not by_row:
        numbers = builder.add("mul", (numbers, _spread(builder, root, scales, numbers.shape)))
    numbers = builder.add("cast", (numbers,), dtype=kind)
    sums = builder.add("dot", (x, numbers), transpose_b=True, dtype=DType.FLOAT32)
    if by_row:
        columns = builder.add("reshape", (scales,), shape=(weight.shape[0],))
        sums = builder.add("mul", (sums, builder.add("expand", (columns,), shape=sums.shape)))
    if step is not None:
        sums = builder.add("mul", (sums, builder.add("expand", (step,), shape=sums.shape)))
    return builder.add(
        "reshape", (builder.add("cast", (sums,), dtype=root.dtype),), shape=root.shape
    )


def _numbers(builder: Builder, root: Node, weight: Node) -> Node:
    """The weight [N, K] float32 before its scales, zeros taken away."""
    if root.attr("format") != "int4":
        return builder.add("cast", (weight,), dtype=DType.FLOAT32)
    unpacked = _unpacked(builder, weight)
    numbers = builder.add("cast", (unpacked,), dtype=DType.FLOAT32)
    if len(root.args) < 4:
        return builder.add("sub", (numbers, _number(builder, MIDDLE, numbers.shape)))
    zeros = builder.add("cast", (root.args[3],), dtype=DType.FLOAT32)
    return builder.add("sub", (numbers, _spread(builder, root, zeros, numbers.shape)))


def _spread(builder: Builder, root: Node, blocks: Node, shape: tuple[Dim, ...]) -> Node:
    """One number for each block of `rows` times `group` weights, repeated to [N, K]."""
    rows = integer(root, "rows") if "rows" in dict(root.attrs) else 1
    group = integer(root, "group")
    down, across = blocks.shape
    cells = builder.add("reshape", (blocks,), shape=(down, 1, across, 1))
    grown = builder.add("expand", (cells,), shape=(down, rows, across, group))
    whole = builder.add("reshape", (grown,), shape=(down * rows, across * group))
    for axis, size in enumerate(shape):
        if whole.shape[axis] != size:
            whole = builder.add("slice", (whole,), axis=axis, start=0, stop=size, step=1)
    return whole


def _quantized_rows(builder: Builder, x: Node, kind: DType) -> tuple[Node, Node]:
    """Whole numbers as `kind`, and the step [M, 1] float32 of each row."""
    wide = builder.add("cast", (x,), dtype=DType.FLOAT32)
    sizes = builder.add("abs", (wide,))
    largest = builder.add("reduce", (sizes,), axes=(1,), kind="max")
    largest = builder.add("reshape", (largest,), shape=(x.shape[0], 1))
    step = builder.add("div", (largest, _number(builder, 127, largest.shape)))
    nothing = builder.add("eq", (largest, _number(builder, 0, largest.shape)))
    step = builder.add("where", (nothing, _number(builder, 1, step.shape), step))
    scaled = builder.add("div", (wide, builder.add("expand", (step,), shape=wide.shape)))
    rounding = _number(builder, ROUNDING, wide.shape)
    whole = builder.add("sub", (builder.add("add", (scaled, rounding)), rounding))
    return builder.add("cast", (whole,), dtype=kind), step


def _unpack(builder: Builder, found: Captures) -> Node | None:
    return _unpacked(builder, found["root"].args[0])


def _unpacked(builder: Builder, packed: Node) -> Node:
    """Each byte stands twice, divided by 1 and by 16; the low 4 bits are the values."""
    shape = (*packed.shape, 2)
    twice = builder.add("reshape", (packed,), shape=(*packed.shape, 1))
    twice = builder.add("expand", (twice,), shape=shape)
    place = builder.add("iota", size=2, dtype=DType.UINT8)
    steps = builder.add("mul", (place, _number(builder, 15, (2,), DType.UINT8)))
    divisor = builder.add("add", (steps, _number(builder, 1, (2,), DType.UINT8)))
    shifted = builder.add("floordiv", (twice, builder.add("expand", (divisor,), shape=shape)))
    low = builder.add("and", (shifted, _number(builder, 15, shape, DType.UINT8)))
    flat = (*packed.shape[:-1], packed.shape[-1] * 2)
    return builder.add("reshape", (low,), shape=flat)


def _number(
    builder: Builder, value: float, shape: tuple[Dim, ...], dtype: DType = DType.FLOAT32
) -> Node:
    kept = value if dtype.is_floating else int(value)
    constant = builder.add("constant", value=kept, dtype=dtype)
    return builder.add("expand", (constant,), shape=shape)
