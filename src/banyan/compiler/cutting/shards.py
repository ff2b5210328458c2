"""Tensor parallel: every rank multiplies by its share of the weights, and sums make it whole. Pure.

One graph holds the nodes of all ranks. The first linears of a block are cut by their outputs, whole
heads of attention with their cache (what latent attention caches is for all heads, so every rank
keeps it); the last are cut by their inputs, and the sum of what the ranks have is one node, the
same on each (Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3).
Weights of a rank are inputs of their own, "q_proj.weight.part0of2".

The cache may be cut among other places than the linears, and experts too: parts are joined and cut
anew where they differ, and where an operation does not keep a cut. `segments` then cuts the graph
like any other.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from banyan.compiler.cutting.shard_axes import (
    HEADS_OF,
    MEMORY_OF,
    axis_of_weight,
    following_axis,
    linear_of_rank,
    share,
    slice_of,
    states_for_all_heads,
)
from banyan.compiler.executable import Array, WeightSource
from banyan.compiler.ir.graph import Builder, Graph, Node, Output, rebuild
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.symbols import fixed
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import GraphError

PlacesOf = Callable[[Node], Sequence[str]]
"""Of a weight or state: the places among which it is cut; where it is one, it stays whole."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a weight or state: `start` up to `stop` along one axis of the whole `name`."""

    name: str
    axis: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ShardedGraph:
    """A graph whose tensors are cut.

    Attributes:
        graph: of all ranks.
        place_of: where a node of one rank is computed; nodes without an entry are the same on
            every rank.
        shards: what the inputs of ranks are parts of, by their names: weights, and states that
            steps only read. States that steps write are never joined, and have no entry.
    """

    graph: Graph
    place_of: Mapping[Node, str] = field(default_factory=dict)
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


def shard_graph(graph: Graph, places_of: PlacesOf) -> ShardedGraph:
    """Cut the tensors of a decoder's step.

    Raises:
        InputError: heads, widths or groups of quantised weights do not divide among the places.
        GraphError: a weight that is cut is read by what cannot be cut.
    """
    return _Sharding(graph, places_of).result()


@dataclass(frozen=True, slots=True)
class _Parts:
    """A value that lies in parts: one node for each rank.

    Attributes:
        nodes: by rank.
        axis: along which it is cut; None where each rank has all of it.
        places: of the ranks.
    """

    nodes: tuple[Node, ...]
    axis: int | None
    places: tuple[str, ...]

    @property
    def ways(self) -> int:
        return len(self.nodes)


class _Sharding:
    """One walk through the graph."""

    def __init__(self, graph: Graph, places_of: PlacesOf) -> None:
        self._graph, self._places_of = graph, places_of
        self._written = {output.updates for output in graph.outputs}
        self._builder = Builder()
        self._wholes: dict[Node, Node] = {}
        self._summands: dict[Node, _Parts] = {}
        self._parts: dict[Node, _Parts] = {}
        self._place_of: dict[Node, str] = {}
        self._shared: set[Node] = set()
        self._shards: dict[str, Shard] = {}
        self._for_all_heads = states_for_all_heads(graph)

    def result(self) -> ShardedGraph:
        """Cut everything."""
        for node in self._graph.nodes():
            axis = self._axis_of_input(node) if node.op == "input" else None
            if axis is not None and node in self._for_all_heads:
                self._copy_state(node, tuple(self._places_of(node)))
            elif axis is not None:
                self._cut_input(node, axis, tuple(self._places_of(node)))
            elif not (self._is_cut(node) and self._follow(node)):
                args = tuple(self._whole(arg) for arg in node.args)
                self._wholes[node] = rebuild(self._builder, node, args)
        graph = Graph(self._graph.name, self._inputs(), self._outputs())
        places = {node: p for node, p in self._place_of.items() if node not in self._shared}
        return ShardedGraph(graph, places, self._shards)

    def _axis_of_input(self, node: Node) -> int | None:
        """Along which axis an input is cut; None where it stays whole."""
        if node.attr("role") == "argument" or len(self._places_of(node)) <= 1:
            return None
        if node.attr("role") == "state":
            # What is only read is cut where the operation that reads it is.
            return 1 if node.attr("name") in self._written else None
        return axis_of_weight(node)

    def _cut_input(self, node: Node, axis: int, places: tuple[str, ...]) -> None:
        name, ways = str(node.attr("name")), len(places)
        each = share(node, axis, ways)
        nodes = []
        for rank in range(ways):
            part = f"{name}{_mark(rank, ways)}"
            if name not in self._written:
                self._shards[part] = Shard(name, axis, rank * each, (rank + 1) * each)
            shape = (*node.shape[:axis], each, *node.shape[axis + 1 :])
            kind = TensorType(shape, node.dtype)
            nodes.append(self._builder.input(part, kind, str(node.attr("role"))))
        self._keep(node, nodes, axis, places)

    def _copy_state(self, node: Node, places: tuple[str, ...]) -> None:
        copies = [f"{node.attr('name')}{_mark(r, len(places))}" for r in range(len(places))]
        nodes = [self._builder.input(copy, node.tensor, "state") for copy in copies]
        self._keep(node, nodes, None, places)

    def _keep(
        self, node: Node, nodes: Sequence[Node], axis: int | None, places: tuple[str, ...]
    ) -> None:
        for place, part in zip(places, nodes, strict=True):
            if self._place_of.setdefault(part, place) != place:
                self._shared.add(part)
        self._parts[node] = _Parts(tuple(nodes), axis, places)

    def _is_cut(self, node: Node) -> bool:
        return any(arg in self._parts or arg in self._summands for arg in node.args)

    def _follow(self, node: Node) -> bool:
        """Compute a node on every rank, as far as its operation allows that."""
        if node.op in {"dot", "grouped_dot", "quantized_linear"}:
            return self._multiply(node)
        if node.op == "low_rank":
            return self._change(node)
        if node.op in MEMORY_OF:
            return self._by_heads(node)
        if node.op == "gather" and node.args[1] in self._parts:
            return self._gather(node)
        if not any(arg in self._parts for arg in node.args):
            return self._keeps_sums(node) and self._follow_summands(node)
        return self._follow_parts(node)

    def _follow_parts(self, node: Node) -> bool:
        """What keeps the cut of its argument."""
        place = next(i for i, arg in enumerate(node.args) if arg in self._parts)
        first = self._parts[node.args[place]]
        if first.axis is None:
            raise _uncuttable(node)
        axis = following_axis(node, place, first.axis, first.ways)
        is_alike = node.op in POINTWISE or node.op == "concat"
        if axis is None or (len(node.args) > 1 and not is_alike):
            return False
        attrs: dict[str, Any] = dict(node.attrs)
        if "shape" in attrs:
            shape = list(attrs["shape"])
            shape[axis] = fixed(shape[axis]) // first.ways
            attrs["shape"] = tuple(shape)
        columns = [self._parts_of(arg, first.axis, first.ways) for arg in node.args]
        nodes = [self._builder.add(node.op, args, **attrs) for args in zip(*columns, strict=True)]
        self._keep(node, nodes, axis, first.places)
        return True

    def _parts_of(self, node: Node, axis: int, ways: int) -> tuple[Node, ...]:
        """A value in so many parts: as it lies, or joined and cut anew."""
        parts = self._parts.get(node)
        if parts is not None and (parts.axis, parts.ways) == (axis, ways):
            return parts.nodes
        whole = self._whole(node)
        return tuple(slice_of(whole, axis, rank, ways) for rank in range(ways))

    def _by_heads(self, node: Node) -> bool:
        """Attention and its cache: as many ranks as the cache has."""
        memory = self._parts.get(node.args[MEMORY_OF[node.op]])
        if memory is None:
            return False
        is_write = node.op.startswith("cache_write")
        heads = () if is_write and memory.axis is None else HEADS_OF[node.op]
        columns = []
        for place, arg in enumerate(node.args):
            parts = self._parts.get(arg)
            if parts is not None and parts.axis is None:
                columns.append(parts.nodes)
            elif place in heads:
                columns.append(self._parts_of(arg, 1, memory.ways))
            else:
                columns.append((self._whole(arg),) * memory.ways)
        attrs: dict[str, Any] = dict(node.attrs)
        nodes = [self._builder.add(node.op, args, **attrs) for args in zip(*columns, strict=True)]
        self._keep(node, nodes, memory.axis if is_write else 1, memory.places)
        return True

    def _gather(self, node: Node) -> bool:
        """The order in which a layer takes its inputs is cut: each rank takes its own of them."""
        order, axis = self._parts[node.args[1]], int(str(node.attr("axis")))
        rows = self._whole(node.args[0])
        nodes = [self._builder.add("gather", (rows, part), axis=axis) for part in order.nodes]
        self._keep(node, nodes, axis, order.places)
        return True

    def _multiply(self, node: Node) -> bool:
        """Linears: by outputs each rank has some columns, by inputs a summand of all."""
        weight = self._parts.get(node.args[1])
        if weight is None:
            return False
        if node.op == "dot" and node.args[1].tensor.rank == 3 and weight.axis == 0:
            return self._multiply_by_heads(node, weight)
        if node.op == "dot" and node.attr("transpose_b") is not True:
            raise _uncuttable(node)
        depth_axis, rows = node.args[1].tensor.rank - 1, node.args[0]
        by_inputs = weight.axis == depth_axis
        if by_inputs:
            parts = self._parts_of(rows, rows.tensor.rank - 1, weight.ways)
        else:
            parts = (self._whole(rows),) * weight.ways
        made = []
        for rank, (own, of_rank) in enumerate(zip(weight.nodes, parts, strict=True)):
            others = [self._of_rank(arg, rank) for arg in node.args[2:]]
            attrs: dict[str, Any] = dict(node.attrs)
            if node.op == "quantized_linear":
                attrs = linear_of_rank(node, own, others[0], by_inputs=by_inputs)
            if by_inputs:
                attrs["dtype"] = _SUMS
            made.append(self._builder.add(node.op, (of_rank, own, *others), **attrs))
        if by_inputs:
            self._keep_summands(node, made, weight.places)
        else:
            self._keep(node, made, node.tensor.rank - 1, weight.places)
        return True

    def _multiply_by_heads(self, node: Node, weight: _Parts) -> bool:
        """A product for each head: a rank has its own heads of all three."""
        parts = self._parts_of(node.args[0], 0, weight.ways)
        pairs = zip(parts, weight.nodes, strict=True)
        made = [self._builder.add("dot", pair, **dict(node.attrs)) for pair in pairs]
        self._keep(node, made, 0, weight.places)
        return True

    def _of_rank(self, node: Node, rank: int) -> Node:
        parts = self._parts.get(node)
        return self._whole(node) if parts is None else parts.nodes[rank]

    def _change(self, node: Node) -> bool:
        """What adapters add, where the rows they read are cut: the first factors are cut alike.

        Those that every rank reads whole are small, and multiplied by on each.
        """
        rows, down = node.args[0], node.args[1]
        state = down.args[0] if down.op == "reshape" else down
        places = tuple(self._places_of(state)) if state.op == "input" else ()
        if rows not in self._parts or len(places) <= 1 or state is down:
            return False
        ways = len(places)
        self._cut_input(state, _FACTOR_DEPTH, places)
        shape = (*down.shape[:1], fixed(down.shape[1]) // ways, *down.shape[2:])
        others = [self._whole(arg) for arg in node.args[2:]]
        made = [
            self._builder.add("low_rank", (own, factor.reshape(shape), *others), **dict(node.attrs))
            for own, factor in zip(
                self._parts_of(rows, 1, ways), self._parts[state].nodes, strict=True
            )
        ]
        self._keep_summands(node, made, places)
        return True

    def _keep_summands(self, node: Node, summands: Sequence[Node], places: tuple[str, ...]) -> None:
        self._summands[node] = _Parts(tuple(summands), 0, places)
        self._place_of.update(zip(summands, places, strict=True))

    def _keeps_sums(self, node: Node) -> bool:
        """Is it the same before a sum as behind it?"""
        num_sums = sum(arg in self._summands for arg in node.args)
        if node.op == "add":
            return num_sums == len(node.args) and node.dtype is _SUMS
        if num_sums != 1:
            return False
        if node.op == "reduce":
            return node.attr("kind") == "sum"
        is_exact = node.op in {"cast", "mul"} and node.dtype is _SUMS
        return is_exact or node.op in {"reshape", "slice"}

    def _follow_summands(self, node: Node) -> bool:
        """Go on with what will be summed: a token's experts are added up before ranks are."""
        first = next(self._summands[arg] for arg in node.args if arg in self._summands)
        made = []
        for rank in range(first.ways):
            args = [
                self._summands[arg].nodes[rank] if arg in self._summands else self._whole(arg)
                for arg in node.args
            ]
            made.append(args[0] if node.op == "cast" else rebuild(self._builder, node, tuple(args)))
        self._keep_summands(node, made, first.places)
        return True

    def _whole(self, node: Node) -> Node:
        """A value that every rank has; what lies in summands is summed, in parts joined."""
        if node not in self._wholes and node in self._parts:
            parts = self._parts[node]
            if node.op == "input" or parts.axis is None:
                raise _uncuttable(node)
            self._wholes[node] = self._builder.add("concat", parts.nodes, axis=parts.axis)
        elif node not in self._wholes:
            first, *others = self._summands[node].nodes
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
            if parts is None or output.updates is None:
                found.append(Output(output.name, self._whole(output.node), output.updates))
                continue
            for rank, node in enumerate(parts.nodes):
                mark = _mark(rank, parts.ways)
                found.append(Output(output.name + mark, node, output.updates + mark))
        return tuple(found)


def _mark(rank: int, ways: int) -> str:
    return f".part{rank}of{ways}"


_SUMS = DType.FLOAT32
_FACTOR_DEPTH = 2
"""Along which axis the state of an adapter's first factors has the inputs of its layer."""


def _uncuttable(node: Node) -> GraphError:
    return GraphError(
        f"{node.op} reads something that is cut between devices, and cannot be cut itself; give "
        "these layers one device each"
    )
