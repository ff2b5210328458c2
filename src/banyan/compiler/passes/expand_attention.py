"""Attention over whole tensors becomes products around a softmax, forward and backward.

Later passes put all of it into one kernel when the second product is narrow enough. Queries of one
group of heads lie one after the other as rows [B * G, H / G * Tq, D], so that keys and values are
never repeated and their gradients need no sum over the group.
"""

from dataclasses import dataclass
from typing import TypeAlias

from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import Pattern, Rule, any_of, rewrite_graph
from banyan.compiler.ir.operations import pack_width
from banyan.compiler.ir.symbols import Dim, fixed, product, upper_bound
from banyan.compiler.ir.types import DType

HIDDEN = float("-inf")
LEAST_KEYS = 64
"""Keys up to which scores are cheaper written out than packed."""

_Stacked: TypeAlias = tuple[int, Dim]
"""Heads whose queries lie in one matrix, and how many queries each has."""


def expand_attention(graph: Graph, *, keep_long: bool = False) -> Graph:
    """Write out every attention; rows that see nothing become zeros.

    With `keep_long` those that see many keys stay: `programs.whole_attention` computes them.
    """

    def forward(builder: Builder, root: Node, call: Node) -> Node | None:
        return None if keep_long and is_long(call) else _expand_forward(builder, root, call)

    rules = (
        Rule("write out attention forward", _result_of("attention_forward"), forward),
        Rule("write out attention backward", _result_of("attention_backward"), _expand_backward),
    )
    return rewrite_graph(graph, rules)


def _result_of(op: str) -> Pattern:
    # Attributes are left open: any of the results.
    return Pattern(frozenset({"get"}), (any_of(op, name="call"),))


def is_long(node: Node) -> bool:
    """Whether an `attention_forward` has a program of its own, and sees enough keys for it."""
    query, key, value = node.args[:3]
    depth, size = key.shape[3], value.shape[3]
    if not isinstance(depth, int) or not isinstance(size, int):
        return False
    packs = query.dtype in {DType.FLOAT32, DType.BFLOAT16} and depth % pack_width(key.dtype) == 0
    return packs and upper_bound(key.shape[2]) > LEAST_KEYS


@dataclass(frozen=True, slots=True)
class _Heads:
    """How [B, H, Tq, ...] and [B, G, Tk, ...] lie as [B * G, rows, ...]."""

    batch: Dim
    heads: int
    groups: int
    length: Dim
    columns: Dim

    @property
    def stacked(self) -> _Stacked:
        return self.heads // self.groups, self.length

    @property
    def rows(self) -> Dim:
        return product(self.stacked)

    @property
    def scores(self) -> tuple[Dim, ...]:
        return (self.batch * self.groups, self.rows, self.columns)

    def of_queries(self, builder: Builder, x: Node) -> Node:
        """[B, H, Tq] or [B, H, Tq, D] with the rows of a group in one matrix."""
        return builder.reshape(x, (self.batch * self.groups, self.rows, *x.shape[3:]))

    def of_keys(self, builder: Builder, x: Node) -> Node:
        """[B, G, Tk, D] as one matrix for each group."""
        return builder.reshape(x, (self.batch * self.groups, *x.shape[2:]))

    def of_mask(self, builder: Builder, mask: Node) -> Node:
        """A mask [B|1, H|1, Tq|1, Tk|1] as large as the scores."""
        whole = builder.expand(mask, (self.batch, self.heads, self.length, self.columns))
        return builder.reshape(whole, self.scores)


def _heads(query: Node, key: Node) -> _Heads:
    batch, heads, length, _ = query.shape
    return _Heads(batch, fixed(heads), fixed(key.shape[1]), length, key.shape[2])


def _expand_forward(builder: Builder, root: Node, call: Node) -> Node:
    query, key, value = call.args[:3]
    heads = _heads(query, key)
    mask = tuple(heads.of_mask(builder, x) for x in call.args[3:])
    rows, keys = heads.of_queries(builder, query), heads.of_keys(builder, key)
    weights, lse = _softmax(builder, _scores(builder, call, rows, keys, mask, heads.stacked))
    if root.attr("index") == 1:
        return builder.reshape(lse, root.shape)
    factors = builder.cast(weights, value.dtype), heads.of_keys(builder, value)
    output = builder.add("dot", factors, transpose_b=False, dtype=root.dtype)
    return builder.reshape(output, root.shape)


def _expand_backward(builder: Builder, root: Node, call: Node) -> Node:
    """FlashAttention-2 (Dao 2023), equations of section 3.2, without the tiles."""
    heads = _heads(call.args[1], call.args[2])
    mask = tuple(heads.of_mask(builder, x) for x in call.args[6:])
    gradient, query, output, lse = (heads.of_queries(builder, call.args[i]) for i in (0, 1, 4, 5))
    key, value = (heads.of_keys(builder, x) for x in call.args[2:4])
    scores = _scores(builder, call, query, key, mask, heads.stacked)
    nothing = builder.add("eq", (lse, _number(builder, HIDDEN, lse)))
    lse = builder.add("where", (nothing, _number(builder, 0.0, lse), lse))
    weights = builder.add("exp", (builder.add("sub", (scores, _column(builder, lse, scores))),))
    # Rounded once: what multiplies the gradients, and what is turned to multiply from the left.
    weights = builder.cast(weights, value.dtype)

    def multiply(a: Node, b: Node, *, transpose_a: bool = False) -> Node:
        narrow = builder.cast(a, b.dtype)
        left = builder.add("permute", (narrow,), order=(0, 2, 1)) if transpose_a else narrow
        return builder.add("dot", (left, b), transpose_b=False, dtype=root.dtype)

    if root.attr("index") == 2:
        result = multiply(weights, gradient, transpose_a=True)
    else:
        change = _change_of_scores(builder, call, (weights, gradient, value, output))
        wanted_key = root.attr("index") == 1
        result = multiply(change, query if wanted_key else key, transpose_a=wanted_key)
    return builder.reshape(result, root.shape)


def _change_of_scores(builder: Builder, call: Node, parts: tuple[Node, ...]) -> Node:
    weights, gradient, value, output = parts
    both = builder.add("mul", [builder.cast(x, DType.FLOAT32) for x in (gradient, output)])
    inner = builder.add("reduce", (both,), axes=(2,), kind="sum")
    change = builder.add("dot", (gradient, value), transpose_b=True, dtype=DType.FLOAT32)
    change = builder.add("sub", (change, _column(builder, inner, change)))
    scaled = _scaled(builder, change, call)
    weights = builder.cast(weights, DType.FLOAT32)
    return builder.cast(builder.add("mul", (weights, scaled)), gradient.dtype)


def _scores(
    builder: Builder, call: Node, query: Node, key: Node, mask: tuple[Node, ...], stacked: _Stacked
) -> Node:
    """scale q k^T with what may not be seen at -inf."""
    scores = builder.add("dot", (query, key), transpose_b=True, dtype=DType.FLOAT32)
    scores = _scaled(builder, scores, call)
    if call.attr("causal"):
        scores = _keep(builder, _lower_triangle(builder, scores.shape, stacked), scores)
    if mask and mask[0].dtype is DType.BOOL:
        return _keep(builder, mask[0], scores)
    return builder.add("add", (scores, mask[0])) if mask else scores


def _scaled(builder: Builder, x: Node, call: Node) -> Node:
    return builder.add("mul", (x, _number(builder, float(str(call.attr("scale"))), x)))


def _number(builder: Builder, value: float, like: Node) -> Node:
    return builder.number(value, like.dtype, like.shape)


def _column(builder: Builder, x: Node, like: Node) -> Node:
    """[B, R] repeated along the last axis of `like` [B, R, C]."""
    return builder.expand(builder.reshape(x, (*x.shape, 1)), like.shape)


def _keep(builder: Builder, seen: Node, scores: Node) -> Node:
    return builder.add("where", (seen, scores, _number(builder, HIDDEN, scores)))


def _lower_triangle(builder: Builder, shape: tuple[Dim, ...], stacked: _Stacked) -> Node:
    row = builder.add("iota", size=stacked[1], dtype=DType.INT64)
    row = builder.expand(row, stacked) if stacked[0] > 1 else row
    row = builder.expand(builder.reshape(row, (shape[-2], 1)), shape)
    column = builder.add("iota", size=shape[-1], dtype=DType.INT64)
    return builder.add("le", (builder.expand(column, shape), row))


def _softmax(builder: Builder, scores: Node) -> tuple[Node, Node]:
    """The softmax of the last axis, and the log of its divisor with the maximum put back."""

    def along(node: Node, kind: str) -> Node:
        reduced = builder.add("reduce", (node,), axes=(node.tensor.rank - 1,), kind=kind)
        return builder.reshape(reduced, (*node.shape[:-1], 1))

    top = along(scores, "max")
    nothing = builder.add("eq", (top, _number(builder, HIDDEN, top)))
    safe = builder.add("where", (nothing, _number(builder, 0.0, top), top))
    moved = builder.add("sub", (scores, builder.expand(safe, scores.shape)))
    grown = builder.add("exp", (moved,))
    total = along(grown, "sum")
    divisor = builder.add("where", (nothing, _number(builder, 1.0, top), total))
    weights = builder.add("div", (grown, builder.expand(divisor, scores.shape)))
    return weights, builder.add("add", (builder.add("log", (total,)), safe))
