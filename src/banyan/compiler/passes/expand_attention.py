"""Attention over whole tensors becomes products around a softmax, forward and backward.

Later passes put all of it into one kernel when the second product is narrow enough. Queries of one
group of heads lie one after the other as rows [B * G, H / G * Tq, D], so that keys and values are
never repeated and their gradients need no sum over the group.
"""

from dataclasses import dataclass
from typing import TypeAlias

from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import Captures, Pattern, Rule, rewrite_graph
from banyan.compiler.ir.operations import pack_width
from banyan.compiler.ir.symbols import Dim, product, upper_bound
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
    return rewrite_graph(graph, KEEPING_LONG if keep_long else RULES)


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
        shape = (self.batch * self.groups, self.rows, *x.shape[3:])
        return builder.add("reshape", (x,), shape=shape)

    def of_keys(self, builder: Builder, x: Node) -> Node:
        """[B, G, Tk, D] as one matrix for each group."""
        return builder.add("reshape", (x,), shape=(self.batch * self.groups, *x.shape[2:]))

    def of_mask(self, builder: Builder, mask: Node) -> Node:
        """A mask [B|1, H|1, Tq|1, Tk|1] as large as the scores."""
        shape = (self.batch, self.heads, self.length, self.columns)
        whole = builder.add("expand", (mask,), shape=shape)
        return builder.add("reshape", (whole,), shape=self.scores)


def _heads(query: Node, key: Node) -> _Heads:
    batch, heads, length, _ = query.shape
    groups = key.shape[1]
    if not isinstance(heads, int) or not isinstance(groups, int):
        raise TypeError("the type rule asks for fixed counts of heads")
    return _Heads(batch, heads, groups, length, key.shape[2])


def _expand_forward(builder: Builder, found: Captures) -> Node | None:
    root, call = found["root"], found["call"]
    query, key, value = call.args[:3]
    heads = _heads(query, key)
    mask = tuple(heads.of_mask(builder, x) for x in call.args[3:])
    rows, keys = heads.of_queries(builder, query), heads.of_keys(builder, key)
    scores = _scores(builder, call, rows, keys, mask, heads.stacked)
    weights, lse = _softmax(builder, scores)
    if root.attr("index") == 1:
        return builder.add("reshape", (lse,), shape=root.shape)
    weights = _cast(builder, weights, value.dtype)
    output = builder.add(
        "dot", (weights, heads.of_keys(builder, value)), transpose_b=False, dtype=root.dtype
    )
    return builder.add("reshape", (output,), shape=root.shape)


def _expand_backward(builder: Builder, found: Captures) -> Node | None:
    """FlashAttention-2 (Dao 2023), equations of section 3.2, without the tiles."""
    root, call = found["root"], found["call"]
    heads = _heads(call.args[1], call.args[2])
    mask = tuple(heads.of_mask(builder, x) for x in call.args[6:])
    gradient, query, output, lse = (heads.of_queries(builder, call.args[i]) for i in (0, 1, 4, 5))
    key, value = (heads.of_keys(builder, x) for x in call.args[2:4])
    scores = _scores(builder, call, query, key, mask, heads.stacked)
    nothing = builder.add("eq", (lse, _number(builder, HIDDEN, lse)))
    lse = builder.add("where", (nothing, _number(builder, 0.0, lse), lse))
    weights = builder.add("exp", (builder.add("sub", (scores, _column(builder, lse, scores))),))
    # Rounded once: what multiplies the gradients, and what is turned to multiply from the left.
    weights = _cast(builder, weights, value.dtype)

    def multiply(a: Node, b: Node, *, transpose_a: bool = False) -> Node:
        narrow = _cast(builder, a, b.dtype)
        left = builder.add("permute", (narrow,), order=(0, 2, 1)) if transpose_a else narrow
        return builder.add("dot", (left, b), transpose_b=False, dtype=root.dtype)

    if root.attr("index") == 2:
        result = multiply(weights, gradient, transpose_a=True)
    else:
        change = _change_of_scores(builder, call, (weights, gradient, value, output))
        wanted_key = root.attr("index") == 1
        result = multiply(change, query if wanted_key else key, transpose_a=wanted_key)
    return builder.add("reshape", (result,), shape=root.shape)


def _change_of_scores(builder: Builder, call: Node, parts: tuple[Node, ...]) -> Node:
    weights, gradient, value, output = parts
    wide = [_cast(builder, x, DType.FLOAT32) for x in (gradient, output)]
    both = builder.add("mul", tuple(wide))
    inner = builder.add("reduce", (both,), axes=(2,), kind="sum")
    change = builder.add("dot", (gradient, value), transpose_b=True, dtype=DType.FLOAT32)
    change = builder.add("sub", (change, _column(builder, inner, change)))
    scaled = builder.add("mul", (change, _number(builder, call.attr("scale"), change)))
    weights = _cast(builder, weights, DType.FLOAT32)
    return builder.add("cast", (builder.add("mul", (weights, scaled)),), dtype=gradient.dtype)


def _scores(
    builder: Builder, call: Node, query: Node, key: Node, mask: tuple[Node, ...], stacked: _Stacked
) -> Node:
    """scale q k^T with what may not be seen at -inf."""
    scores = builder.add("dot", (query, key), transpose_b=True, dtype=DType.FLOAT32)
    scores = builder.add("mul", (scores, _number(builder, call.attr("scale"), scores)))
    if call.attr("causal"):
        scores = _keep(builder, _lower_triangle(builder, scores.shape, stacked), scores)
    return _masked(builder, mask[0], scores) if mask else scores


def _cast(builder: Builder, x: Node, dtype: DType) -> Node:
    return x if x.dtype is dtype else builder.add("cast", (x,), dtype=dtype)


def _number(builder: Builder, value: object, like: Node) -> Node:
    constant = builder.add("constant", value=float(str(value)), dtype=like.dtype)
    return builder.add("expand", (constant,), shape=like.shape)


def _column(builder: Builder, x: Node, like: Node) -> Node:
    """[B, R] repeated along the last axis of `like` [B, R, C]."""
    kept = builder.add("reshape", (x,), shape=(*x.shape, 1))
    return builder.add("expand", (kept,), shape=like.shape)


def _keep(builder: Builder, seen: Node, scores: Node) -> Node:
    return builder.add("where", (seen, scores, _number(builder, HIDDEN, scores)))


def _lower_triangle(builder: Builder, shape: tuple[Dim, ...], stacked: _Stacked) -> Node:
    row = builder.add("iota", size=stacked[1], dtype=DType.INT64)
    if stacked[0] > 1:
        row = builder.add("expand", (row,), shape=stacked)
    row = builder.add("reshape", (row,), shape=(shape[-2], 1))
    row = builder.add("expand", (row,), shape=shape)
    column = builder.add("iota", size=shape[-1], dtype=DType.INT64)
    return builder.add("le", (builder.add("expand", (column,), shape=shape), row))


def _masked(builder: Builder, mask: Node, scores: Node) -> Node:
    if mask.dtype is DType.BOOL:
        return _keep(builder, mask, scores)
    return builder.add("add", (scores, _cast(builder, mask, DType.FLOAT32)))


def _softmax(builder: Builder, scores: Node) -> tuple[Node, Node]:
    """The softmax of the last axis, and the log of its divisor with the maximum put back."""
    last = scores.tensor.rank - 1
    kept = (*scores.shape[:-1], 1)

    def along(node: Node, kind: str) -> Node:
        reduced = builder.add("reduce", (node,), axes=(last,), kind=kind)
        return builder.add("reshape", (reduced,), shape=kept)

    def across(node: Node) -> Node:
        return builder.add("expand", (node,), shape=scores.shape)

    top = along(scores, "max")
    nothing = builder.add("eq", (top, _number(builder, HIDDEN, top)))
    safe = builder.add("where", (nothing, _number(builder, 0.0, top), top))
    grown = builder.add("exp", (builder.add("sub", (scores, across(safe))),))
    total = along(grown, "sum")
    divisor = builder.add("where", (nothing, _number(builder, 1.0, top), total))
    weights = builder.add("div", (grown, across(divisor)))
    return weights, builder.add("add", (builder.add("log", (total,)), safe))


def _expand_short(builder: Builder, found: Captures) -> Node | None:
    return None if is_long(found["call"]) else _expand_forward(builder, found)


def _result_of(op: str) -> Pattern:
    # Attributes are left open: any of the results.
    return Pattern(frozenset({"get"}), (Pattern(frozenset({op}), None, "call"),), "root")


RULES: tuple[Rule, ...] = (
    Rule("write out attention forward", _result_of("attention_forward"), _expand_forward),
    Rule("write out attention backward", _result_of("attention_backward"), _expand_backward),
)
KEEPING_LONG: tuple[Rule, ...] = (
    Rule("write out short attention", _result_of("attention_forward"), _expand_short),
    RULES[1],
)
