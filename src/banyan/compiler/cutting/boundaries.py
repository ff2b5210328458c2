"""Which stage of a pipeline computes a node, when only weights and states have a stage. Pure.

A node that reads a weight belongs to the stage of that weight. What lies between two such nodes
could be on either side; a least cut through it makes what crosses as small as can be: from layer
to layer the sum of the residual stream, and neither its square nor its two summands.
"""

from collections.abc import Callable, Iterator, Mapping

from banyan.compiler.cutting.cheap import cheap_nodes, most_bytes
from banyan.compiler.cutting.minimum_cut import UNCUTTABLE, minimum_cut
from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.groups import users_of
from banyan.compiler.ir.types import TupleType

StageOf = Callable[[Node], int | None]
"""The stage of an input that is a weight or a state; None where it may be read by any."""


def stages_of_nodes(graph: Graph, stage_of: StageOf, num_stages: int) -> Mapping[Node, int]:
    """The stage, 0 to `num_stages` - 1, of every node that is not cheap, written states too.

    No node is in an earlier stage than what it needs.
    """
    cheap = cheap_nodes(graph)
    nodes = [node for node in graph.nodes() if node not in cheap]
    own = _own_stages(graph, stage_of, cheap)
    earliest: dict[Node, int] = {}
    for node in nodes:
        before = [earliest[arg] for arg in node.args if arg not in cheap]
        earliest[node] = max((*before, own[node] or 0))
    users = users_of(nodes)
    latest: dict[Node, int] = {}
    results = {output.node for output in graph.outputs}
    for node in reversed(nodes):
        after = [latest[user] for user in users[node]]
        is_bound = own[node] is not None or node in results or not after
        latest[node] = earliest[node] if is_bound else min(after)
    for boundary in range(num_stages - 1):
        _settle(boundary, nodes, users, earliest, latest)
    return earliest


def _own_stages(graph: Graph, stage_of: StageOf, cheap: frozenset[Node]) -> dict[Node, int | None]:
    """The stage that a node has by the weights and states it reads, grown or cast though they be.

    The latest of them; nodes made of weights alone have no stage of their own.
    """
    found: dict[Node, int | None] = {}
    for node in graph.nodes():
        if node.op == "input":
            is_kept = node.attr("role") in {"weight", "state"}
            found[node] = stage_of(node) if is_kept else None
        else:
            parts = [found[arg] for arg in node.args if node in cheap or arg in cheap]
            parts += [found[arg] for arg in node.args if arg.op == "input"]
            known = [stage for stage in parts if stage is not None]
            found[node] = max(known, default=None)
    return found


def _settle(
    boundary: int,
    nodes: list[Node],
    users: Mapping[Node, list[Node]],
    earliest: dict[Node, int],
    latest: dict[Node, int],
) -> None:
    """Say for every node that could be on either side of a boundary on which it is."""
    free = {node for node in nodes if earliest[node] <= boundary < latest[node]}
    edges = dict(_network(boundary, free, users, earliest))
    before = minimum_cut(edges, ("source", None), ("sink", None))
    for node in free:
        if ("made", node) in before:
            latest[node] = boundary
        else:
            earliest[node] = boundary + 1


_Vertex = tuple[str, Node | None]


def _network(
    boundary: int, free: set[Node], users: Mapping[Node, list[Node]], earliest: Mapping[Node, int]
) -> Iterator[tuple[tuple[_Vertex, _Vertex], int]]:
    """The edges of values that may cross.

    A value has two vertices: "made" is before the boundary when it is computed there, "kept" when
    it is not sent over. The edge between them costs what sending costs.
    """
    fixed = {arg for node in free for arg in node.args if arg in users and arg not in free}
    for value in (*free, *fixed):
        made, kept = ("made", value), ("kept", value)
        is_tuple = isinstance(value.type, TupleType)
        yield (made, kept), UNCUTTABLE if is_tuple else most_bytes(value)
        yield (kept, made), UNCUTTABLE
        if value in fixed:
            yield (("source", None), made), UNCUTTABLE
        for user in users[value]:
            if user in free:
                yield (kept, ("made", user)), UNCUTTABLE
                yield (("made", user), made), UNCUTTABLE
            elif earliest[user] > boundary:
                yield (kept, ("sink", None)), UNCUTTABLE
