"""Quantised linear layers become products with the weights they stand for.

For targets that have no kernel of their own for a weight format. Integers and 8-bit floats are
exact in every floating type, so a layer with one scale for each row multiplies them as they are and
scales the sums; other layers scale the weight first, rounded to the type of the activations.
"""

from collections.abc import Collection

from banyan.compiler.ir.attributes import integer
from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import Rule, any_of, rewrite_graph
from banyan.compiler.ir.nibbles import unpacked
from banyan.compiler.ir.quantized import MIDDLE
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType

ROUNDING = 12_582_912.0
"""1.5 * 2**23: adding and taking away rounds small float32 numbers to whole ones, half to even."""


def expand_quantized(graph: Graph, kept: Collection[str] = ()) -> Graph:
    """Write out `quantized_linear` nodes, except of the formats `kept`, and `unpack`."""

    def linear(builder: Builder, root: Node) -> Node | None:
        return None if root.attr("format") in kept else _linear(root)

    def unpack(builder: Builder, root: Node) -> Node:
        return unpacked(root.args[0])

    rules = (
        Rule("write out quantised linear", any_of("quantized_linear"), linear),
        Rule("write out unpack", any_of("unpack"), unpack),
    )
    return rewrite_graph(graph, rules)


def _linear(root: Node) -> Node:
    x, weight, scales = root.args[:3]
    rows = x.reshape((product(x.shape[:-1]), x.shape[-1]))
    step = None
    if root.attr("activation") == "int8":
        rows, step = _quantized_rows(rows)
    numbers = _numbers(root, weight)
    by_row = scales.shape == (weight.shape[0], 1)
    if not by_row:
        numbers = numbers * _spread(root, scales, numbers.shape)
    sums = rows.apply("dot", numbers.cast(x.dtype), transpose_b=True, dtype=DType.FLOAT32)
    if by_row:
        sums = sums * scales.reshape((weight.shape[0],))
    if step is not None:
        sums = sums * step
    return sums.cast(root.dtype).reshape(root.shape)


def _numbers(root: Node, weight: Node) -> Node:
    """The weight [N, K] float32 before its scales, zeros taken away."""
    if root.attr("format") != "int4":
        return weight.cast(DType.FLOAT32)
    numbers = unpacked(weight).cast(DType.FLOAT32)
    if len(root.args) < 4:
        return numbers - MIDDLE
    return numbers - _spread(root, root.args[3].cast(DType.FLOAT32), numbers.shape)


def _spread(root: Node, blocks: Node, shape: tuple[Dim, ...]) -> Node:
    """One number for each block of `rows` times `group` weights, repeated to [N, K]."""
    rows = integer(root, "rows") if "rows" in dict(root.attrs) else 1
    group = integer(root, "group")
    down, across = blocks.shape
    grown = blocks.reshape((down, 1, across, 1)).expand((down, rows, across, group))
    return grown.reshape((down * rows, across * group)).first_places(shape)


def _quantized_rows(x: Node) -> tuple[Node, Node]:
    """Whole numbers in the type of `x`, and the step [M, 1] float32 of each row."""
    wide = x.cast(DType.FLOAT32)
    largest = wide.apply("abs").reduce("max", (1,), keep=True)
    step = largest.equals(0).choose(1, largest / 127)
    return (wide / step + ROUNDING - ROUNDING).cast(x.dtype), step
