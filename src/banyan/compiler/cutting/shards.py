"""Tensor parallel: every rank multiplies by its share of the weights, and sums make it whole. Pure.

One graph holds the nodes of all ranks. The first linears of a block are cut by their outputs, whole
heads of attention with their cache (what latent attention caches is for all heads, so every rank
keeps it); the last are cut by their inputs, and the sum of what the ranks
have is one node, the same on each (Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3).
Weights of a rank are inputs of their own, "q_proj.weight.part0of2". `segments` then cuts the graph
like any other.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from banyan.compiler.executable import Array, WeightSource
from banyan.compiler.ir.graph import Builder, Graph, Node, Output, rebuild
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.symbols import fixed, product
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import GraphError, InputError

BY_OUTPUTS = frozenset(
    {"q_proj", "k_proj", "v_proj", "q_b_proj", "kv_b_proj", "gate_proj", "up_proj", "w1", "w3"}
)
BY_INPUTS = frozenset({"o_proj", "down_proj", "w2"})


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a weight: places `start` up to `stop` of one axis of the weight `name`."""

    name: str
    axis: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ShardedGraph:
    """A graph whose tensors are cut.

    Attributes:
        graph: of all ranks.
        rank_of: whose node it is; nodes without an entry are the same on every rank.
        shards: what the weights of ranks are parts of, by their names.
    """

    graph: Graph
    rank_of: Mapping[Node, int] = field(default_factory=dict)
    shards: Mapping[str, Shard] = field(default_factory=dict)


class ShardedWeights:
    """The weights of a model with those of the ranks among them."""

    def __init__(self, source: WeightSource, shards: Mapping[str, Shard]) -> None:
        self._source, self._shards = source, shards

    def names(self) -> Collection[str]:
        """See `WeightSource`."""
        return {*self._source.names(), *self._shards}

    def read(self, name: str) -> Array:
        """See `WeightSource`."""
        shard = self._shards.get(name)
        if shard is None:
            return self._source.read(name)
        whole = self._source.read(shard.name)
        part: Array = whole[(slice(None),) * shard.axis + (slice(shard.start, shard.stop),)]
        return part

    def release(self, name: str) -> None:
        """See `WeightSource`."""
        shard = self._shards.get(name)
        self._source.release(name if shard is None else shard.name)


def shard_graph(graph: Graph, ways_of: Callable[[Node], int]) -> ShardedGraph:
    """Cut the tensors of a decoder's step.

    Args:
        graph: of whole tensors, its linears plain.
        ways_of: among how many ranks a weight or state is cut; 1 leaves it whole.

    Raises:
        InputError: heads or widths do not divide among the ranks.
        GraphError: what follows a cut linear is not known to keep the cut.
    """
    return _Sharding(graph, ways_of).result()


@dataclass(frozen=True, slots=True)
class _Parts:
    """A value that lies in parts: one node for each rank.

    Attributes:
        nodes: by rank.
        axis: along which it is cut; None where each rank has all of it.
    """

    nodes: tuple[Node, ...]
    axis: int | None


class _Sharding:
    """One walk through the graph."""

    def __init__(self, graph: Graph, ways_of: Callable[[Node], int]) -> None:
        self._graph, self._ways_of = graph, ways_of
        self._builder = Builder()
        self._wholes: dict[Node, Node] = {}
        self._summands: dict[Node, tuple[Node, ...]] = {}
        self._parts: dict[Node, _Parts] = {}
        self._rank_of: dict[Node, int] = {}
        self._shared: set[Node] = set()
        self._shards: dict[str, Shard] = {}
        self._for_all_heads = _states_for_all_heads(graph)

    def result(self) -> ShardedGraph:
        """Cut everything."""
        for node in self._graph.nodes():
            axis = self._axis_of_input(node) if node.op == "input" else None
            if node in self._for_all_heads and self._ways_of(node) > 1:
                self._copy_state(node)
            elif axis is not None:
                self._cut_input(node, axis)
            elif any(arg in self._parts for arg in node.args):
                self._follow(node)
            elif self._keeps_sums(node):
                self._follow_summands(node)
            else:
                args = tuple(self._whole(arg) for arg in node.args)
                self._wholes[node] = rebuild(self._builder, node, args)
        graph = Graph(self._graph.name, self._inputs(), self._outputs())
        ranks = {node: r for node, r in self._rank_of.items() if node not in self._shared}
        return ShardedGraph(graph, ranks, self._shards)

    def _axis_of_input(self, node: Node) -> int | None:
        """Along which axis an input is cut; None where it stays whole."""
        if node.attr("role") == "argument" or self._ways_of(node) == 1:
            return None
        if node.attr("role") == "state":
            return 1
        parts = str(node.attr("name")).split(".")
        owner = parts[-2] if len(parts) > 1 else ""
        if owner in BY_OUTPUTS and parts[-1] in {"weight", "bias"}:
            return max(node.tensor.rank - 2, 0)
        return node.tensor.rank - 1 if owner in BY_INPUTS and parts[-1] == "weight" else None

    def _cut_input(self, node: Node, axis: int) -> None:
        name, ways = str(node.attr("name")), self._ways_of(node)
        size = fixed(node.shape[axis])
        if size % ways:
            what = "heads of its cache" if node.attr("role") == "state" else "rows or columns"
            raise InputError(
                f"{name} has {size} {what}, which {ways} devices cannot share evenly; cut its "
                f"layers among a number of devices that divides {size}"
            )
        each = size // ways
        nodes = []
        for rank in range(ways):
            part = f"{name}{_mark(rank, ways)}"
            if node.attr("role") == "weight":
                self._shards[part] = Shard(name, axis, rank * each, (rank + 1) * each)
            shape = (*node.shape[:axis], each, *node.shape[axis + 1 :])
            kind = TensorType(shape, node.dtype)
            nodes.append(self._builder.input(part, kind, str(node.attr("role"))))
        self._keep(node, nodes, axis)

    def _copy_state(self, node: Node) -> None:
        name, ways = str(node.attr("name")), self._ways_of(node)
        copies = [name + _mark(rank, ways) for rank in range(ways)]
        nodes = [self._builder.input(copy, node.tensor, "state") for copy in copies]
        self._keep(node, nodes, None)

    def _keep(self, node: Node, nodes: list[Node], axis: int | None) -> None:
        for rank, part in enumerate(nodes):
            if self._rank_of.setdefault(part, rank) != rank:
                self._shared.add(part)
        self._parts[node] = _Parts(tuple(nodes), axis)

    def _follow(self, node: Node) -> None:
        """Compute a node on every rank, from parts of at least one argument."""
        if node.op in {"dot", "grouped_dot"}:
            self._multiply(node)
            return
        places = [i for i, arg in enumerate(node.args) if arg in self._parts]
        place = next((i for i in places if self._parts[node.args[i]].axis is not None), places[0])
        first = self._parts[node.args[place]]
        axis = None if first.axis is None else _following_axis(node, place, first.axis)
        attrs: dict[str, Any] = dict(node.attrs)
        ways = len(first.nodes)
        if "shape" in attrs and axis is not None:
            shape = list(attrs["shape"])
            shape[axis] = fixed(shape[axis]) // ways
            attrs["shape"] = tuple(shape)
        nodes = []
        for rank in range(ways):
            args = [self._part(arg, first.axis, rank, ways, node) for arg in node.args]
            nodes.append(self._builder.add(node.op, args, **attrs))
        self._keep(node, nodes, axis)

    def _part(self, arg: Node, axis: int | None, rank: int, ways: int, user: Node) -> Node:
        """What a rank takes of an argument."""
        if arg in self._parts:
            if self._parts[arg].axis not in {axis, None}:
                raise _unknown(user)
            return self._parts[arg].nodes[rank]
        whole = self._whole(arg)
        if axis is None or (user.op not in POINTWISE and user.op != "concat"):
            return whole
        return _slice_of(whole, axis, rank, ways)

    def _multiply(self, node: Node) -> None:
        """Linears: by outputs each rank has some columns, by inputs a summand of all."""
        rows, weight = node.args[0], self._parts.get(node.args[1])
        x, rank_axis = self._parts.get(rows), node.args[1].tensor.rank
        if x and weight and rank_axis == 3 and x.axis == weight.axis == 0 and node.op == "dot":
            self._multiply_by_heads(node, x, weight)
            return
        if weight is None or (node.op == "dot" and node.attr("transpose_b") is not True):
            raise _unknown(node)
        attrs: dict[str, Any] = dict(node.attrs)
        others = [self._whole(arg) for arg in node.args[2:]]
        if x is None and weight.axis == rank_axis - 2:
            whole = self._whole(rows)
            made = [self._builder.add(node.op, (whole, w, *others), **attrs) for w in weight.nodes]
            self._keep(node, made, node.tensor.rank - 1)
            return
        if x is None or x.axis != rows.tensor.rank - 1 or weight.axis != rank_axis - 1:
            raise _unknown(node)
        pairs = zip(x.nodes, weight.nodes, strict=True)
        exact = {**attrs, "dtype": _SUMS}
        self._keep_summands(
            node, [self._builder.add(node.op, (part, w, *others), **exact) for part, w in pairs]
        )

    def _multiply_by_heads(self, node: Node, x: _Parts, weight: _Parts) -> None:
        """A product for each head: a rank has its own heads of all three."""
        attrs: dict[str, Any] = dict(node.attrs)
        pairs = zip(x.nodes, weight.nodes, strict=True)
        self._keep(node, [self._builder.add(node.op, pair, **attrs) for pair in pairs], 0)

    def _keep_summands(self, node: Node, summands: list[Node]) -> None:
        self._summands[node] = tuple(summands)
        self._rank_of.update({summand: rank for rank, summand in enumerate(summands)})

    def _keeps_sums(self, node: Node) -> bool:
        """Is it the same before a sum as behind it?"""
        if sum(arg in self._summands for arg in node.args) != 1:
            return False
        if node.op == "reduce":
            return node.attr("kind") == "sum"
        return node.op == "reshape" or (node.op in {"cast", "mul"} and node.dtype is _SUMS)

    def _follow_summands(self, node: Node) -> None:
        """Go on with what will be summed: a token's experts are added up before ranks are."""
        ways = next(len(self._summands[arg]) for arg in node.args if arg in self._summands)
        made = []
        for rank in range(ways):
            args = [
                self._summands[arg][rank] if arg in self._summands else self._whole(arg)
                for arg in node.args
            ]
            made.append(args[0] if node.op == "cast" else rebuild(self._builder, node, tuple(args)))
        self._keep_summands(node, made)

    def _whole(self, node: Node) -> Node:
        """A value that every rank has; what lies in summands is summed."""
        if node not in self._wholes:
            first, *others = self._summands[node]
            for summand in others:
                first = first + summand
            self._wholes[node] = first.cast(node.dtype)
        return self._wholes[node]

    def _inputs(self) -> tuple[Node, ...]:
        found: list[Node] = []
        for node in self._graph.inputs:
            parts = self._parts.get(node)
            found.extend((self._whole(node),) if parts is None else parts.nodes)
        return tuple(found)

    def _outputs(self) -> tuple[Output, ...]:
        found: list[Output] = []
        for output in self._graph.outputs:
            parts = self._parts.get(output.node)
            if parts is None:
                found.append(Output(output.name, self._whole(output.node), output.updates))
                continue
            if output.updates is None:
                raise GraphError(f"the output {output.name} lies in parts and nothing joins them")
            for rank, node in enumerate(parts.nodes):
                mark = _mark(rank, len(parts.nodes))
                found.append(Output(output.name + mark, node, output.updates + mark))
        return tuple(found)


def _mark(rank: int, ways: int) -> str:
    return f".part{rank}of{ways}"


def _slice_of(whole: Node, axis: int, rank: int, ways: int) -> Node:
    """A rank's places of a value that every rank has."""
    each = fixed(whole.shape[axis]) // ways
    if whole.op == "expand":
        source = whole.args[0]
        own = axis - (whole.tensor.rank - source.tensor.rank)
        if own < 0 or source.shape[own] == 1:
            return source.expand((*whole.shape[:axis], each, *whole.shape[axis + 1 :]))
    return whole.slice(axis, rank * each, (rank + 1) * each)


def _following_axis(node: Node, place: int, axis: int) -> int:
    """Along which axis the result is cut when argument `place` is cut along `axis`."""
    arg = node.args[place]
    attrs: dict[str, Any] = dict(node.attrs)
    found: int | None = None
    keeps = node.op in POINTWISE or node.op in _BY_HEADS or node.op == "get"
    if keeps or (node.op in {"slice", "concat"} and attrs["axis"] != axis):
        found = axis
    elif node.op == "expand":
        found = axis + node.tensor.rank - arg.tensor.rank
    elif node.op == "permute":
        found = list(attrs["order"]).index(axis)
    elif node.op == "reduce" and axis not in attrs["axes"]:
        found = axis - sum(other < axis for other in attrs["axes"])
    elif node.op == "reshape":
        before = product(arg.shape[:axis])
        fitting = (i for i in range(node.tensor.rank) if product(node.shape[:i]) == before)
        found = next((i for i in fitting if node.shape[i] != 1), None)
    if found is None:
        raise _unknown(node)
    return found


_SUMS = DType.FLOAT32
_BY_HEADS = frozenset(
    {"cache_write", "cache_write_quantized", "paged_attention", "paged_latent_attention"}
)


def _states_for_all_heads(graph: Graph) -> frozenset[Node]:
    """What latent attention caches: its writes are what the attention reads."""
    readers = (node for node in graph.nodes() if node.op == "paged_latent_attention")
    return frozenset(reader.args[1].args[0] for reader in readers)


def _unknown(node: Node) -> GraphError:
    return GraphError(
        f"{node.op} follows a linear that is cut between devices, and is not known to keep the "
        "cut; give these layers one device each"
    )
