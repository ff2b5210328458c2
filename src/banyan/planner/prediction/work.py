"""What one step of a model has to do: values that cost models turn into seconds.

The sizes of a step are symbols (`num_tokens`, `num_logit_rows`, ...), as in the graph it was read
from; `StepSizes` gives them numbers. `graph_work` reads work from a captured graph, `shape_work`
from the shape of a model that nobody captured yet. Bytes, and multiplications and additions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from banyan.compiler.ir.symbols import Dim, evaluate
from banyan.planner.costs import Part, StepShape

BEFORE = -1
"""The place of what comes before the first layer."""


@dataclass(frozen=True, slots=True)
class StepSizes:
    """A step as work is counted in: whole sequences of equal length stand for all.

    Attributes:
        symbols: what the sizes of the graph are.
        num_sequences: that take part.
        cached_tokens: keys that attention reads, summed over the sequences.
        attended_pairs: pairs (new token, token it sees), summed over the sequences.
    """

    symbols: dict[str, int]
    num_sequences: int
    cached_tokens: float
    attended_pairs: float

    @property
    def num_tokens(self) -> int:
        """New tokens of all sequences."""
        return self.symbols["num_tokens"]

    @property
    def tokens_per_sequence(self) -> float:
        """New tokens of one sequence: 1 where answers are computed."""
        return self.num_tokens / self.num_sequences


def step_sizes(step: StepShape) -> StepSizes:
    """The sizes of a step in which each sequence has one row of logits."""
    sequences = max(1, step.num_rows)
    symbols = {
        "num_tokens": step.num_tokens,
        "num_logit_rows": step.num_rows,
        "num_sequences": sequences,
    }
    return StepSizes(symbols, sequences, step.cached_tokens, step.attended_pairs)


@dataclass(frozen=True, slots=True)
class LinearWork:
    """Products of rows with a weight; weights that are multiplied by the same rows are one.

    Attributes:
        names: of the weights.
        place: the layer, `BEFORE` the first, or their number behind the last.
        rows: how many.
        columns: of the product.
        depth: the contracted size.
        form: how the weight is stored: "bfloat16", "int8", ...; with ":int8" where the rows are
            rounded to bytes and that is not the usual for the form.
        weight_bytes: scales and zeros included.
    """

    names: tuple[str, ...]
    place: int
    rows: Dim
    columns: int
    depth: int
    form: str
    weight_bytes: float

    def operations(self, sizes: StepSizes) -> float:
        """Multiplications and additions."""
        return 2.0 * evaluate(self.rows, sizes.symbols) * self.columns * self.depth

    def num_bytes(self, sizes: StepSizes) -> float:
        """Bytes of weights that are read; rows of one step stay near the arithmetic."""
        return self.weight_bytes if evaluate(self.rows, sizes.symbols) else 0.0


@dataclass(frozen=True, slots=True)
class ExpertWork:
    """Products of rows with the weights of the experts they were sent to.

    Attributes:
        names: of the stacks of weights.
        place: as of `LinearWork`.
        rows: tokens times experts that each visits.
        columns: of the product.
        depth: the contracted size.
        num_experts: in the stack.
        form: how the weights are stored.
        weight_bytes: of the whole stack.
    """

    names: tuple[str, ...]
    place: int
    rows: Dim
    columns: int
    depth: int
    num_experts: int
    form: str
    weight_bytes: float

    def visited(self, sizes: StepSizes) -> float:
        """Experts that at least one row is sent to, expected where rows choose at random."""
        rows = evaluate(self.rows, sizes.symbols)
        return self.num_experts * (1.0 - (1.0 - 1.0 / self.num_experts) ** rows)

    def operations(self, sizes: StepSizes) -> float:
        """Multiplications and additions."""
        return 2.0 * evaluate(self.rows, sizes.symbols) * self.columns * self.depth

    def num_bytes(self, sizes: StepSizes) -> float:
        """Bytes of the visited experts."""
        return self.weight_bytes * self.visited(sizes) / self.num_experts


@dataclass(frozen=True, slots=True)
class AttentionWork:
    """Attention of one layer over cached keys and values.

    Attributes:
        place: the layer.
        heads: of queries.
        cache_heads: of keys and values.
        head_size: numbers of a key.
        window: tokens that a token sees; 0 means all.
        form: how keys and values are stored.
        bytes_per_token: that a cached token takes, scales included.
    """

    place: int
    heads: int
    cache_heads: int
    head_size: int
    window: int
    form: str
    bytes_per_token: float

    def pairs(self, sizes: StepSizes) -> float:
        """Pairs of tokens within the window."""
        if not self.window:
            return sizes.attended_pairs
        return min(sizes.attended_pairs, float(sizes.num_tokens * self.window))

    def keys(self, sizes: StepSizes) -> float:
        """Cached tokens within the window."""
        if not self.window:
            return sizes.cached_tokens
        reach = self.window + sizes.tokens_per_sequence - 1
        return min(sizes.cached_tokens, sizes.num_sequences * reach)

    def operations(self, sizes: StepSizes) -> float:
        """Multiplications and additions of both products."""
        return 4.0 * self.heads * self.head_size * self.pairs(sizes)

    def num_bytes(self, sizes: StepSizes) -> float:
        """Bytes of keys and values."""
        return self.bytes_per_token * self.keys(sizes)


@dataclass(frozen=True, slots=True)
class ElementwiseWork:
    """Norms, rotations, gates, sums and writes into the cache: few operations for each byte.

    Attributes:
        place: as of `LinearWork`.
        moved: bytes that kernels read from others and leave for others.
        kernels: at least so many are launched.
        attention: whether it belongs to the part that computes attention.
    """

    place: int
    moved: Dim
    kernels: int
    attention: bool = False

    def operations(self, sizes: StepSizes) -> float:
        """None that counts."""
        del sizes
        return 0.0

    def num_bytes(self, sizes: StepSizes) -> float:
        """Bytes moved."""
        return float(evaluate(self.moved, sizes.symbols))


@dataclass(frozen=True, slots=True)
class LookupWork:
    """Rows of a table, by number: the embedding of tokens.

    Attributes:
        name: of the table.
        place: as of `LinearWork`.
        rows: how many.
        row_bytes: of one row.
        weight_bytes: of the table.
    """

    name: str
    place: int
    rows: Dim
    row_bytes: float
    weight_bytes: float

    def operations(self, sizes: StepSizes) -> float:
        """None."""
        del sizes
        return 0.0

    def num_bytes(self, sizes: StepSizes) -> float:
        """Bytes of the rows that are looked up."""
        return self.row_bytes * evaluate(self.rows, sizes.symbols)


NodeWork: TypeAlias = LinearWork | ExpertWork | AttentionWork | ElementwiseWork | LookupWork


@dataclass(frozen=True, slots=True)
class StepWork:
    """All work of one step.

    Attributes:
        nodes: in an order in which they can run.
        num_layers: layers.
    """

    nodes: tuple[NodeWork, ...]
    num_layers: int

    def of(self, part: Part) -> Iterator[NodeWork]:
        """The nodes of a part: with layer 0 the embedding too, with the last one the head."""
        first = BEFORE if part.first_layer == 0 else part.first_layer
        end = part.end_layer + (part.end_layer == self.num_layers)
        for node in self.nodes:
            if first <= node.place < end and _is_in(node, part):
                yield node

    def operations(self, part: Part, sizes: StepSizes) -> float:
        """Multiplications and additions of a part, `share` of them."""
        return part.share * sum(node.operations(sizes) for node in self.of(part))

    def num_bytes(self, part: Part, sizes: StepSizes) -> float:
        """Bytes of a part that have to pass, `share` of them."""
        return part.share * sum(node.num_bytes(sizes) for node in self.of(part))

    def weight_bytes(self, part: Part) -> float:
        """Bytes of weights that the device of a part holds; a weight that is used twice once."""
        held: dict[str, float] = {}
        for node in self.of(part):
            if isinstance(node, LinearWork | ExpertWork):
                held["+".join(node.names)] = node.weight_bytes
            elif isinstance(node, LookupWork):
                held[node.name] = node.weight_bytes
        return part.share * sum(held.values())

    def cache_bytes_per_token(self, part: Part) -> float:
        """Bytes that one cached token takes on the device of a part."""
        caches = (node for node in self.of(part) if isinstance(node, AttentionWork))
        return part.share * sum(node.bytes_per_token for node in caches)


def _is_in(node: NodeWork, part: Part) -> bool:
    if isinstance(node, AttentionWork):
        return part.attention
    if isinstance(node, ExpertWork):
        return part.experts
    if isinstance(node, ElementwiseWork) and node.attention:
        return part.attention
    return part.dense
