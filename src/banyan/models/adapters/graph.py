"""The graph of a decoder's step with room for adapters, and what an adapter is in that room.

Each group of layers that read the same rows gets one `low_rank` operation, whose result is added to
theirs. Its factors are states of the graph, one slot for each of S adapters at once; the argument
`adapters` [T] int32 names the slot of each token, a negative number none. Another state says for
each kind of group which slots change it at all, so that others cost nothing there. A graph without
room for adapters is not touched.

A step with many adapters takes as long as memory takes to give their factors. Stored as bytes they
are half as long: each rank of a layer has two scales, the largest number of its row of the first
factor and of its column of the second one over 127, and their product is multiplied in between.

Legend: S slots, K inputs, C columns of all first factors of a group, R largest rank, N outputs of a
group, p numbers packed side by side.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.ir.graph import Builder, Graph, Node, Output, rebuild
from banyan.compiler.ir.groups import users_of
from banyan.compiler.ir.operations import PANEL_COLUMNS, pack_width
from banyan.compiler.ir.symbols import product
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import GraphError, UnsupportedModelError
from banyan.models.adapters.reading import Adapter, LowRankPair
from banyan.models.adapters.targets import Target, TargetGroup, target_groups
from banyan.models.configuration import ModelConfiguration

ARGUMENT = "adapters"

_PRODUCTS = frozenset({"dot", "quantized_linear"})
_HALVES = ("down", "up")
_SCALES = "scales"
_LARGEST = 127


@dataclass(frozen=True, slots=True)
class AdapterRoom:
    """Room for adapters in a decoder.

    Attributes:
        model: the decoder.
        slots: S, how many adapters have a place at once.
        max_rank: R, rounded up to whole pairs where numbers are packed in pairs.
        dtype: of the activations.
        is_rounded: whether factors are stored as bytes, rounded; otherwise as the activations.
    """

    model: ModelConfiguration
    slots: int
    max_rank: int
    dtype: DType
    is_rounded: bool = False

    @property
    def rank(self) -> int:
        """R as it is stored."""
        pack = pack_width(self.dtype)
        return -(-self.max_rank // pack) * pack

    def groups(self) -> Iterator[tuple[int, TargetGroup]]:
        """Every group of layers, with its decoder layer."""
        for layer in range(self.model.num_layers):
            for group in target_groups(self.model, layer):
                yield layer, group

    def types(self, group: TargetGroup) -> dict[str, TensorType]:
        """The types of the states of a group, both factors in blocks of sixteen columns.

        They are down [S, C/16, K/p, 16, p], up [S, N/16, R/p, 16, p] and, of factors in bytes,
        scales float32 [S, C].

        Raises:
            UnsupportedModelError: K is no multiple of p, or N none of 16.
        """
        pack = pack_width(self.dtype)
        for sizes, multiple in (((group.inputs,), pack), (group.outputs, PANEL_COLUMNS)):
            if any(size % multiple for size in sizes):
                raise UnsupportedModelError(
                    f"adapters need layers with an even number of inputs and a multiple of "
                    f"{PANEL_COLUMNS} outputs; {group.name} of this model maps {group.inputs} to "
                    f"{', '.join(map(str, group.outputs))}"
                )
        stored = DType.INT8 if self.is_rounded else self.dtype
        narrow, wide = (size // PANEL_COLUMNS for size in (self.width(group), sum(group.outputs)))
        down = (self.slots, narrow, group.inputs // pack, PANEL_COLUMNS, pack)
        up = (self.slots, wide, self.rank // pack, PANEL_COLUMNS, pack)
        found = {"down": TensorType(down, stored), "up": TensorType(up, stored)}
        if self.is_rounded:
            found[_SCALES] = TensorType((self.slots, self.width(group)), DType.FLOAT32)
        return found

    def width(self, group: TargetGroup) -> int:
        """C: whole blocks."""
        return -(-self.rank * len(group.targets) // PANEL_COLUMNS) * PANEL_COLUMNS

    @property
    def num_bytes(self) -> int:
        """Memory of all slots."""
        return sum(
            kind.maximum_bytes for _, group in self.groups() for kind in self.types(group).values()
        )

    def factors(self, adapter: Adapter) -> dict[str, NDArray[Any]]:
        """What the states hold in the slot of an adapter, by the name of the state.

        Layers of a group that it does not change hold zeros; groups that it does not change in any
        decoder layer are left out and read by nobody.
        """
        found: dict[str, NDArray[Any]] = {}
        changed = self.changed_groups(adapter)
        for layer, group in self.groups():
            if group.name not in changed:
                continue
            pairs = [adapter.pairs.get((layer, target.path)) for target in group.targets]
            factors = self._factors(group, pairs)
            if self.is_rounded:
                down, up, scales = _rounded(*factors, group)
                found[state_name(_SCALES, layer, group)] = scales
                factors = down, up
            for half, factor in zip(_HALVES, factors, strict=True):
                stored = factor if self.is_rounded else factor.astype(self.dtype.numpy)
                found[state_name(half, layer, group)] = _blocks(stored, pack_width(self.dtype))
        return found

    def places(self, changed: Collection[str], slot: int) -> dict[str, NDArray[Any]]:
        """What the states that say who changes what hold for an adapter of `changed_groups`."""
        return {
            places_name(group): np.array(slot if group.name in changed else self.slots, np.int32)
            for _, group in self.groups()
        }

    def changed_groups(self, adapter: Adapter) -> frozenset[str]:
        """The kinds of groups that an adapter changes in any decoder layer."""
        return frozenset(
            group.name
            for layer, group in self.groups()
            if any((layer, target.path) in adapter.pairs for target in group.targets)
        )

    def _factors(
        self, group: TargetGroup, pairs: list[LowRankPair | None]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The first factors beside each other [C, K], the second one behind the other [N, R]."""
        down = np.zeros((self.width(group), group.inputs), np.float32)
        up = np.zeros((sum(group.outputs), self.rank), np.float32)
        row = 0
        for number, (pair, target) in enumerate(zip(pairs, group.targets, strict=True)):
            if pair is not None:
                first = number * self.rank
                down[first : first + pair.rank] = pair.down
                up[row : row + target.outputs, : pair.rank] = pair.up
            row += target.outputs
        return down, up


def state_name(half: str, layer: int, group: TargetGroup) -> str:
    """The name of the state that holds the "down" or "up" factors of a group, or their "scales"."""
    return f"adapter_{half}.{layer}.{group.name}"


def places_name(group: TargetGroup) -> str:
    """The name of the state [S]: each slot's own number, or S where it changes nothing."""
    return f"adapter_places.{group.name}"


def _rounded(
    down: NDArray[Any], up: NDArray[Any], group: TargetGroup
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Factors [C, K] and [N, R] as bytes, and what a product of both is worth, float32 [C]."""
    scales = np.zeros(len(down), np.float32)
    whole = [np.zeros(factor.shape, np.int8) for factor in (down, up)]
    rank, row = up.shape[1], 0
    for number, target in enumerate(group.targets):
        first, last = slice(number * rank, (number + 1) * rank), slice(row, row + target.outputs)
        row += target.outputs
        own, other = np.abs(down[first]).max(1), np.abs(up[last]).max(0)
        scales[first] = (own / _LARGEST) * (other / _LARGEST)
        for factor, place, most in ((0, first, own[:, None]), (1, last, other[None])):
            given = (down, up)[factor][place]
            steps = given * np.divide(_LARGEST, most, out=np.zeros_like(most), where=most > 0)
            whole[factor][place] = np.rint(steps).clip(-_LARGEST, _LARGEST)
    return whole[0], whole[1], scales


def _blocks(factor: NDArray[Any], pack: int) -> NDArray[Any]:
    """[N, K] as [N/16, K/p, 16, p]."""
    columns, depth = factor.shape
    shape = (columns // PANEL_COLUMNS, PANEL_COLUMNS, depth // pack, pack)
    return np.ascontiguousarray(factor.reshape(shape).swapaxes(1, 2))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the change of one layer stands in the result of its group's `low_rank`."""

    layer: int
    group: TargetGroup
    start: int
    stop: int


def adapted_graph(graph: Graph, room: AdapterRoom) -> Graph:
    """The step of a decoder with the changes of adapters added to its linear layers.

    Raises:
        GraphError: a layer is not there, or layers of a group read different rows.
    """
    ends, rows = _find_layers(graph, room)
    builder = Builder()
    inputs = [rebuild(builder, node, ()) for node in graph.inputs]
    new: dict[Node, Node] = dict(zip(graph.inputs, inputs, strict=True))
    changes = _Changes(builder, room, next(iter(rows.values())))
    for node in graph.nodes():
        if node.op != "input":
            new[node] = rebuild(builder, node, tuple(new[arg] for arg in node.args))
        place = ends.get(node)
        if place is not None:
            source = new[rows[place.layer, place.group.name]]
            new[node] = new[node] + changes.of(place, source).cast(node.dtype)
    outputs = tuple(Output(o.name, new[o.node], o.updates) for o in graph.outputs)
    arguments = [node for node in inputs if node.attr("role") == "argument"]
    others = [node for node in inputs if node.attr("role") != "argument"]
    everything = (*arguments, changes.adapters, *changes.states.values(), *others)
    return replace(graph, inputs=everything, outputs=outputs)


class _Changes:
    """Writes the `low_rank` of each group, once."""

    def __init__(self, builder: Builder, room: AdapterRoom, rows: Node) -> None:
        self._builder, self._room = builder, room
        kind = TensorType((rows.shape[0],), DType.INT32)
        self.adapters = builder.input(ARGUMENT, kind)
        self.states: dict[str, Node] = {}

    def _state(self, name: str, kind: TensorType) -> Node:
        return self.states.setdefault(name, self._builder.input(name, kind, "state"))

    def _chosen(self, group: TargetGroup) -> Node:
        """The slot [T] of each row, S for rows that this kind of group is the base for."""
        slots = self._room.slots
        places = self._state(places_name(group), TensorType((slots,), DType.INT32))
        is_none = (self.adapters < 0) | (self.adapters >= slots)
        safe = is_none.choose(0, self.adapters)
        return is_none.choose(slots, places.apply("gather", safe, axis=0))

    def of(self, place: _Place, rows: Node) -> Node:
        """What the adapter of each row adds to one layer."""
        factors = []
        for half, kind in self._room.types(place.group).items():
            state = self._state(state_name(half, place.layer, place.group), kind)
            # Of the factors, the blocks of all adapters in one row.
            is_whole = half == _SCALES
            factors.append(
                state if is_whole else state.reshape((product(kind.shape[:2]), *kind.shape[2:]))
            )
        columns, chosen = place.group.outputs, self._chosen(place.group)
        # Scales come last.
        change = rows.apply("low_rank", *factors[:2], chosen, *factors[2:], columns=columns)
        return change.slice(1, place.start, place.stop)


def _find_layers(
    graph: Graph, room: AdapterRoom
) -> tuple[dict[Node, _Place], dict[tuple[int, str], Node]]:
    """The last node of each layer that may change, and the rows that each group reads."""
    users = users_of(graph.nodes())
    weights = {
        str(node.attr("name")): node for node in graph.inputs if node.attr("role") == "weight"
    }
    ends: dict[Node, _Place] = {}
    rows: dict[tuple[int, str], Node] = {}
    for layer, group in room.groups():
        start = 0
        for target in group.targets:
            product = _product(weights, users, layer, target)
            stop = start + target.outputs
            ends[_end(product, users)] = _Place(layer, group, start, stop)
            start = stop
            found = rows.setdefault((layer, group.name), _rows(product))
            if found is not _rows(product):
                raise GraphError(f"the layers {group.name} of layer {layer} read different rows")
    return ends, rows


def _product(
    weights: Mapping[str, Node], users: Mapping[Node, list[Node]], layer: int, target: Target
) -> Node:
    name = f"model.layers.{layer}.{target.path}.weight"
    readers = users.get(weights[name], []) if name in weights else []
    if len(readers) != 1 or readers[0].op not in _PRODUCTS:
        raise GraphError(f"the graph has no single product with {name}, which adapters change")
    return readers[0]


def _rows(product: Node) -> Node:
    """What a layer reads, before a quantised one puts its columns into another order."""
    rows = product.args[0]
    is_ordered = rows.op == "gather" and rows.args[1].op == "input"
    return rows.args[0] if is_ordered else rows


def _end(product: Node, users: Mapping[Node, list[Node]]) -> Node:
    """The product, or the bias behind it, in the type that the model goes on with."""
    following = users[product]
    if len(following) != 1 or following[0].op != "add":
        return product
    total = following[0]
    grown = total.args[0] if total.args[1] is product else total.args[1]
    while grown.op in {"expand", "cast"}:
        grown = grown.args[0]
    if grown.op != "input" or grown.attr("role") != "weight":
        return product
    casts = [user for user in users[total] if user.op == "cast"]
    return casts[0] if casts == list(users[total]) != [] else total
