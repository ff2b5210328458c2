"""From the stages of a plan to the device of every node of a step. Pure.

A layer's nodes go to the devices of its stage; attention with its KV cache, or experts, elsewhere
where the stage says so. Called when a model is loaded under a plan.
"""

import re
from collections.abc import Sequence

from banyan.compiler.cutting.boundaries import stages_of_nodes
from banyan.compiler.cutting.segments import PlacesOf
from banyan.compiler.cutting.shards import ShardedGraph
from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.groups import users_of
from banyan.foundation.errors import InputError
from banyan.planner.plan import Plan, Stage

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_STATE = re.compile(r"^\w+\.(\d+)(?:\.|$)")
_FIRST = "model.embed_tokens."
_EXPERTS = ".experts."
_ADAPTERS = "adapter_"
_EXPERT_TAIL = frozenset({"reshape", "cast", "mul", "expand", "permute"})


def stages_to_run(plan: Plan, *, of_prompts: bool = False) -> tuple[Stage, ...]:
    """The stages that one engine carries out: of answers, or of prompts where they are apart.

    Raises:
        InputError: the plan asks for what is not carried out.
    """
    if len(plan.replicas) != 1:
        raise InputError(
            f"the plan has {len(plan.replicas)} replicas and one engine runs one; `banyan serve` "
            "starts an engine for each"
        )
    (replica,) = plan.replicas
    return replica.prefill if of_prompts else replica.stages


def is_cut(stage: Stage) -> bool:
    """Whether several devices share tensors of a stage."""
    return max(len(stage.devices), len(stage.attention), len(stage.experts)) > 1


def places_of_input(node: Node, stages: Sequence[Stage]) -> tuple[str, ...]:
    """The devices among which a weight or state is cut; none for those outside the layers."""
    layer = layer_of_input(node)
    if layer is None:
        return ()
    stage = next(stage for stage in stages if layer < stage.end_layer)
    name = str(node.attr("name"))
    if stage.attention and node.attr("role") == "state" and not name.startswith(_ADAPTERS):
        return stage.attention
    return stage.experts if stage.experts and _EXPERTS in name else stage.devices


def places_of_nodes(sharded: ShardedGraph, stages: Sequence[Stage]) -> PlacesOf:
    """Where each node of a step is computed."""
    graph = sharded.graph
    stage_of = stages_of_nodes(graph, lambda node: _stage_of_input(node, stages), len(stages))
    experts = _expert_nodes(graph)

    def places_of(node: Node) -> tuple[str, ...]:
        place = sharded.place_of.get(node)
        if place is not None:
            return (place,)
        is_state = node.op == "input"
        stage = stages[stage_of[node]]
        if stage.attention and (is_state or node.op.startswith("paged_")):
            return stage.attention
        if len(stage.experts) == 1 and node in experts:
            return stage.experts
        return stage.devices

    return places_of


def layer_of_input(node: Node) -> int | None:
    """The layer whose weight or state an input is; None for those outside the layers."""
    name = str(node.attr("name"))
    found = _LAYER.search(name)
    if found is None and node.attr("role") == "state":
        found = _STATE.search(name)
    return None if found is None else int(found[1])


def _stage_of_input(node: Node, stages: Sequence[Stage]) -> int | None:
    layer = layer_of_input(node)
    if layer is None and node.attr("role") == "state":
        return None
    if layer is None:
        return 0 if str(node.attr("name")).startswith(_FIRST) else len(stages) - 1
    return next(i for i, stage in enumerate(stages) if layer < stage.end_layer)


def _expert_nodes(graph: Graph) -> frozenset[Node]:
    """What experts compute: their products, what lies between, and the sum over a token's experts.

    So a token's row goes to them and one row comes back, however many experts it visits.
    """
    nodes = graph.nodes()
    products = [node for node in nodes if node.op == "grouped_dot"]
    users = users_of(nodes)
    behind: set[Node] = set()
    for node in nodes:
        if node.op == "grouped_dot" or any(arg in behind for arg in node.args):
            behind.add(node)
    found = set(products)
    for product in products:
        layer = layer_of_input(product.args[1])
        pending = [arg for arg in product.args[:1] if arg in behind]
        seen: set[Node] = set()
        while pending:
            node = pending.pop()
            if node not in seen and _follows(node, layer):
                seen.add(node)
                pending.extend(arg for arg in node.args if arg in behind)
        found |= seen
        found |= _tail(product, users)
    return frozenset(found)


def _follows(node: Node, layer: int | None) -> bool:
    """Does a product of the same layer lie before a node, with nothing but arithmetic between?"""
    pending, seen = [node], set[Node]()
    while pending:
        at = pending.pop()
        if at.op == "grouped_dot":
            return layer_of_input(at.args[1]) == layer
        if at not in seen and at.op not in {"dot", "quantized_linear", "reduce", "input"}:
            seen.add(at)
            pending.extend(at.args)
    return False


def _tail(product: Node, users: dict[Node, list[Node]]) -> set[Node]:
    """What follows the last product of a layer, up to the sum over experts."""
    found: set[Node] = set()
    pending = list(users[product])
    while pending:
        node = pending.pop()
        if node.op == "reduce" and node.attr("kind") == "sum":
            found.add(node)
        elif node.op in _EXPERT_TAIL and node not in found:
            found.add(node)
            pending.extend(users[node])
    return found
