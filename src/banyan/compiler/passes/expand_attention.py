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
from banyan.compiler.ir.packing import DEPTH_MULTIPLE
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
        return None if keep_long and is_long(call) else _expand_forward(root, call)

    rules = (
        Rule("write out attention forward", _result_of("attention_forward"), forward),
        Rule(
            "write out attention backward",
            _result_of("attention_backward"),
            lambda _, root, call: _expand_backward(root, call),
        ),
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
    packs = query.dtype in DEPTH_MULTIPLE and depth % pack_width(key.dtype) == 0
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

    def of_queries(self, x: Node) -> Node:
        """[B, H, Tq] or [B, H, Tq, D] with the rows of a group in one matrix."""
        return x.reshape((self.batch * self.groups, self.rows, *x.shape[3:]))

    def of_keys(self, x: Node) -> Node:
        """[B, G, Tk, D] as one matrix for each group."""
        return x.reshape((self.batch * self.groups, *x.shape[2:]))

    def of_mask(self, mask: Node) -> Node:
        """A mask [B|1, H|1, Tq|1, Tk|1] as large as the scores."""
        whole = mask.expand((self.batch, self.heads, self.length, self.columns))
        return whole.reshape(self.scores)


def _heads(query: Node, key: Node) -> _Heads:
    batch, heads, length, _ = query.shape
    return _Heads(batch, fixed(heads), fixed(key.shape[1]), length, key.shape[2])


def _dot(a: Node, b: Node, dtype: DType = DType.FLOAT32, *, transpose_b: bool = False) -> Node:
    return a.apply("dot", b, transpose_b=transpose_b, dtype=dtype)


def _expand_forward(root: Node, call: Node) -> Node:
    query, key, value = call.args[:3]
    heads = _heads(query, key)
    mask = tuple(map(heads.of_mask, call.args[3:]))
    scores = _scores(call, heads.of_queries(query), heads.of_keys(key), mask, heads.stacked)
    weights, lse = _softmax(scores)
    if root.attr("index") == 1:
        return lse.reshape(root.shape)
    return _dot(weights.cast(value.dtype), heads.of_keys(value), root.dtype).reshape(root.shape)


def _expand_backward(root: Node, call: Node) -> Node:
    """FlashAttention-2 (Dao 2023), equations of section 3.2, without the tiles."""
    heads = _heads(call.args[1], call.args[2])
    mask = tuple(map(heads.of_mask, call.args[6:]))
    gradient, query, output, lse = (heads.of_queries(call.args[i]) for i in (0, 1, 4, 5))
    key, value = (heads.of_keys(x) for x in call.args[2:4])
    scores = _scores(call, query, key, mask, heads.stacked)
    lse = lse.equals(HIDDEN).choose(0.0, lse)
    # Rounded once: what multiplies the gradients, and what is turned to multiply from the left.
    weights = (scores - lse.reshape((*lse.shape, 1))).apply("exp").cast(value.dtype)

    def multiply(a: Node, b: Node, *, transpose_a: bool = False) -> Node:
        narrow = a.cast(b.dtype)
        return _dot(narrow.permute((0, 2, 1)) if transpose_a else narrow, b, root.dtype)

    if root.attr("index") == 2:
        result = multiply(weights, gradient, transpose_a=True)
    else:
        change = _change_of_scores(call, (weights, gradient, value, output))
        wanted_key = root.attr("index") == 1
        result = multiply(change, query if wanted_key else key, transpose_a=wanted_key)
    return result.reshape(root.shape)


def _change_of_scores(call: Node, parts: tuple[Node, ...]) -> Node:
    weights, gradient, value, output = parts
    inner = (gradient.cast(DType.FLOAT32) * output.cast(DType.FLOAT32)).reduce(
        "sum", (2,), keep=True
    )
    change = _dot(gradient, value, transpose_b=True) - inner
    return (weights.cast(DType.FLOAT32) * (change * _scale(call))).cast(gradient.dtype)


def _scale(call: Node) -> float:
    return float(str(call.attr("scale")))


def _scores(call: Node, query: Node, key: Node, mask: tuple[Node, ...], stacked: _Stacked) -> Node:
    """scale q k^T with what may not be seen at -inf."""
    scores = _dot(query, key, transpose_b=True) * _scale(call)
    if call.attr("causal"):
        scores = _lower_triangle(scores, stacked).choose(scores, HIDDEN)
    if mask and mask[0].dtype is DType.BOOL:
        return mask[0].choose(scores, HIDDEN)
    return scores + mask[0] if mask else scores


def _lower_triangle(scores: Node, stacked: _Stacked) -> Node:
    row, column = (
        scores.builder.add("iota", size=size, dtype=DType.INT64)
        for size in (stacked[1], scores.shape[-1])
    )
    if stacked[0] > 1:
        row = row.expand(stacked)
    rows = row.reshape((scores.shape[-2], 1)).expand(scores.shape)
    return column.expand(scores.shape) <= rows


def _softmax(scores: Node) -> tuple[Node, Node]:
    """The softmax of the last axis, and the log of its divisor with the maximum put back."""
    last = (scores.tensor.rank - 1,)
    top = scores.reduce("max", last, keep=True)
    nothing = top.equals(HIDDEN)
    safe = nothing.choose(0.0, top)
    grown = (scores - safe).apply("exp")
    total = grown.reduce("sum", last, keep=True)
    return grown / nothing.choose(1.0, total), total.apply("log") + safe
