"""Cut a graph into segments by where its nodes are to be computed. Pure: graph in, graphs out.

A node may have several homes: it is then computed at each of them, so that none has to send it.
What is cheap (`cheap`) has no home and is computed wherever it is needed. A state, what writes it
and what reads it stay together; one that nothing writes is kept wherever it is read. Called by the
engine's stages; tensors cut between devices are nodes like others here (`shards`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from banyan.compiler.cutting.cheap import VIEWS, cheap_nodes, most_bytes
from banyan.compiler.cutting.urgency import as_late_as_needed, deferrable
from banyan.compiler.ir.graph import Builder, Graph, Node, Output, rebuild
from banyan.compiler.ir.placement import symbol_names
from banyan.compiler.ir.symbols import Expression
from banyan.compiler.ir.types import TupleType
from banyan.compiler.ir.verify import verify
from banyan.foundation.errors import GraphError

Place: TypeAlias = str
PlacesOf: TypeAlias = Callable[[Node], Sequence[Place]]


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a graph that one place computes in one go.

    Attributes:
        place: who computes it.
        graph: its inputs are arguments of the whole graph, values of earlier segments ("value.7"),
            its own weights and states; its outputs are results of the whole and such values.
        received: values it takes -> the place whose segment gave them; may be its own place.
    """

    place: Place
    graph: Graph
    received: Mapping[str, Place]

    @property
    def given(self) -> tuple[str, ...]:
        """The outputs that are no states, results of the whole graph among them."""
        return tuple(output.name for output in self.graph.outputs if output.updates is None)


class _Task(NamedTuple):
    """A node at one of its homes."""

    node: Node
    place: Place


_Key: TypeAlias = tuple[int, bool, int]
"""Of a segment: how many times work changed its place before it, whether others can do without it
for now, and the number of its place."""


def cut_graph(graph: Graph, places_of: PlacesOf) -> tuple[Segment, ...]:
    """Cut a graph; the segments come in an order in which they can run one after the other.

    Args:
        graph: of whole tensors, before any pass.
        places_of: where a node is computed: one place or several; asked for nodes that are not
            cheap, and for states that are written.

    What a place computes for itself comes behind what it sends. Segments that need nothing of each
    other may also run at once. A value crosses as the smallest
    thing it can be made from again by the receiver without arithmetic.

    Raises:
        GraphError: a state would be needed before and after something at another place.
    """
    homes = _Homes(graph, places_of)
    tasks = _needed_tasks(graph, homes)
    keys = _segment_keys(tasks, homes)
    return _Writer(graph, homes, tasks, keys).segments()


class _Homes:
    """Where each node is computed, and where each place gets it from."""

    def __init__(self, graph: Graph, places_of: PlacesOf) -> None:
        self.cheap = cheap_nodes(graph)
        self.groups = _groups(graph)
        self._places: dict[Node, tuple[Place, ...]] = {}
        for node in graph.nodes():
            if node not in self.cheap:
                self._places[node] = tuple(places_of(node))
        for group in self.groups:
            first = next((node for node in group if node.op == "input"), group[0])
            self._places |= dict.fromkeys(group, self._places[first][:1])

    def at_home(self, node: Node) -> _Task:
        """The node where it is computed first."""
        return _Task(node, self._places[node][0])

    def source(self, node: Node, place: Place) -> _Task:
        """What a place gets to have a node: the node, or one that it is a view of."""
        best, at = node, node
        while place not in self._places[at]:
            if at.op not in VIEWS:
                return self.at_home(best)
            at = at.args[0]
            if most_bytes(at) <= most_bytes(best):
                best = at
        return _Task(at, place)

    def sources(self, task: _Task) -> list[_Task]:
        """What a task needs of others."""
        return [self.source(arg, task.place) for arg in task.node.args if arg not in self.cheap]


def _groups(graph: Graph) -> list[list[Node]]:
    """Nodes that must stay together: a state with all that touch it, a tuple with its parts."""
    updates = {output.node for output in graph.outputs if output.updates is not None}
    written = {output.updates for output in graph.outputs if output.updates is not None}
    group_of: dict[Node, list[Node]] = {}

    def join(one: Node, other: Node) -> None:
        left, right = group_of.setdefault(one, [one]), group_of.setdefault(other, [other])
        if left is not right:
            left.extend(right)
            group_of.update(dict.fromkeys(right, left))

    def is_memory(node: Node) -> bool:
        is_state = node.op == "input" and node.attr("name") in written
        return is_state or node in updates or isinstance(node.type, TupleType)

    for node in graph.nodes():
        for arg in node.args:
            if is_memory(arg):
                join(arg, node)
    states = {str(node.attr("name")): node for node in graph.inputs}
    for output in graph.outputs:
        if output.updates is not None:
            join(states[output.updates], output.node)
    return list({id(group): group for group in group_of.values()}.values())


def _needed_tasks(graph: Graph, homes: _Homes) -> list[_Task]:
    """Every node at every home where something needs it, arguments before users."""
    pending = [
        homes.at_home(output.node) for output in graph.outputs if output.node not in homes.cheap
    ]
    found = set(pending)
    while pending:
        for source in homes.sources(pending.pop()):
            if source not in found:
                found.add(source)
                pending.append(source)
    number = {node: i for i, node in enumerate(graph.nodes())}
    return sorted(found, key=lambda task: (number[task.node], task.place))


def _segment_keys(tasks: Sequence[_Task], homes: _Homes) -> dict[_Task, _Key]:
    """As early as what a task needs allows; groups together, and last what nobody waits for.

    Raises:
        GraphError: a group would have to run before itself.
    """
    steps = dict.fromkeys(tasks, 0)
    groups = [[t for n in group if (t := homes.at_home(n)) in steps] for group in homes.groups]
    # Each round settles at least one more group, unless groups wait for each other.
    for _ in range(len(groups) + 2):
        before = dict(steps)
        for task in tasks:
            needed = (steps[s] + (s.place != task.place) for s in homes.sources(task))
            steps[task] = max(steps[task], *needed, 0)
        for group in groups:
            last = max((steps[task] for task in group), default=0)
            steps.update(dict.fromkeys(group, last))
        if steps == before:
            steps = as_late_as_needed(tasks, steps, homes.sources, groups)
            late = deferrable(tasks, steps, homes.sources, groups)
            places = list(dict.fromkeys(task.place for task in tasks))
            return {t: (step, t in late, places.index(t.place)) for t, step in steps.items()}
    raise GraphError(
        "a state is needed on both sides of something at another place; put all that touches the "
        "state, and what lies between, at one place"
    )


@dataclass(slots=True)
class _Draft:
    """A segment while it is written."""

    place: Place
    builder: Builder = field(default_factory=Builder)
    copies: dict[Node, Node] = field(default_factory=dict)
    inputs: dict[str, Node] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    received: dict[str, Place] = field(default_factory=dict)


class _Writer:
    """Writes the graphs of the segments."""

    def __init__(
        self, graph: Graph, homes: _Homes, tasks: Sequence[_Task], keys: Mapping[_Task, _Key]
    ) -> None:
        self._graph, self._homes, self._tasks, self._keys = graph, homes, tasks, keys
        self._nodes = graph.nodes()
        self._number = {node: i for i, node in enumerate(self._nodes)}
        self._drafts = {
            keys[task]: _Draft(task.place) for task in sorted(tasks, key=lambda t: keys[t])
        }

    def segments(self) -> tuple[Segment, ...]:
        """All of them, in order."""
        for task in self._tasks:
            draft = self._drafts[self._keys[task]]
            args = tuple(self._argument(draft, arg) for arg in task.node.args)
            draft.copies[task.node] = self._copy(draft, task.node, args)
        self._write_results()
        for draft in self._drafts.values():
            for name, place in draft.received.items():
                self._give(name, place)
        return tuple(
            self._finished(number, draft) for number, draft in enumerate(self._drafts.values())
        )

    def _argument(self, draft: _Draft, node: Node) -> Node:
        """What stands for a node in a segment that needs it."""
        if node in draft.copies:
            return draft.copies[node]
        if node in self._homes.cheap:
            args = tuple(self._argument(draft, arg) for arg in node.args)
            return self._copy(draft, node, args)
        source = self._homes.source(node, draft.place)
        if source.node is not node:
            (arg,) = (self._argument(draft, arg) for arg in node.args)
            return self._copy(draft, node, (arg,))
        name = f"value.{self._number[node]}"
        draft.received[name] = source.place
        return draft.inputs.setdefault(name, draft.builder.input(name, node.tensor))

    def _copy(self, draft: _Draft, node: Node, args: tuple[Node, ...]) -> Node:
        copy = rebuild(draft.builder, node, args)
        draft.copies[node] = copy
        if node.op == "input":
            draft.inputs[str(node.attr("name"))] = copy
        return copy

    def _write_results(self) -> None:
        """The results of the whole graph, each where it is made."""
        drafts = list(self._drafts.values())
        for output in self._graph.outputs:
            draft = drafts[-1]
            if output.node not in self._homes.cheap:
                draft = self._drafts[self._keys[self._homes.at_home(output.node)]]
            node = self._argument(draft, output.node)
            draft.outputs.append(Output(output.name, node, output.updates))

    def _give(self, name: str, place: Place) -> None:
        """Make a value an output of the segment that computes it."""
        node = self._nodes[int(name.partition(".")[2])]
        draft = self._drafts[self._keys[_Task(node, place)]]
        if all(output.name != name for output in draft.outputs):
            draft.outputs.append(Output(name, draft.copies[node]))

    def _finished(self, number: int, draft: _Draft) -> Segment:
        self._tell_sizes(draft)
        order = {str(node.attr("name")): i for i, node in enumerate(self._graph.inputs)}
        by_role = {"argument": 0, "state": 1, "weight": 2}
        inputs = sorted(
            draft.inputs.items(),
            key=lambda item: (by_role[str(item[1].attr("role"))], order.get(item[0], len(order))),
        )
        graph = Graph(
            f"{self._graph.name}.{number}",
            tuple(node for _, node in inputs),
            tuple(draft.outputs),
        )
        return Segment(draft.place, verify(graph), draft.received)

    def _tell_sizes(self, draft: _Draft) -> None:
        """Take arguments that say how large a size is, where nothing else there does."""
        graph = Graph("sizes", tuple(draft.inputs.values()), tuple(draft.outputs))
        used = {name for node in graph.nodes() for name in symbol_names(node)}
        told = {name for node in draft.inputs.values() for name in _told_by(node)}
        for name in sorted(used - told):
            teller = self._teller(name)
            self._argument(draft, teller)

    def _teller(self, name: str) -> Node:
        arguments = (node for node in self._graph.inputs if node.attr("role") == "argument")
        fitting = [node for node in arguments if name in _told_by(node)]
        if not fitting:
            raise GraphError(f"no argument of {self._graph.name} tells the size {name}")
        return min(fitting, key=most_bytes)


def _told_by(node: Node) -> Iterable[str]:
    """The symbols that a shape gives away: dims that are just a symbol."""
    for dim in node.shape:
        if isinstance(dim, Expression) and str(dim) in {s.name for s in node.tensor.symbols()}:
            yield str(dim)
