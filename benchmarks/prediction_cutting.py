"""Cuts of a step for `benchmarks.prediction`: two stages, or attention apart."""

import re

from banyan.compiler.cutting.boundaries import stages_of_nodes
from banyan.compiler.cutting.segments import cut_graph
from banyan.compiler.ir.graph import Graph, Node

_LAYER = re.compile(r"\.(\d+)(?:\.|$)")
_ATTENTION = frozenset(("paged_attention", "cache_write", "cache_write_quantized"))


def cut_stages(graph: Graph, border: int) -> list[Graph]:
    """Layers before `border`, and the rest with the head."""

    def stage_of(node: Node) -> int | None:
        name = str(node.attr("name"))
        if found := _LAYER.search(name):
            return int(int(found.group(1)) >= border)
        return 1 if "norm" in name or "head" in name else None

    stages = stages_of_nodes(graph, stage_of, 2)
    return [s.graph for s in cut_graph(graph, lambda node: [str(stages[node])])]


def cut_attention(graph: Graph) -> list[Graph]:
    """Attention and its caches apart from everything else: two parts for each layer."""

    def places(node: Node) -> list[str]:
        is_state = node.op == "input" and node.attr("role") == "state"
        return ["attention" if is_state or node.op in _ATTENTION else "dense"]

    return [segment.graph for segment in cut_graph(graph, places)]
