"""A sum and the norm behind it become one kernel: the row is in the cache when it is normed.

`plan_fusion` keeps a stream that several layers read in memory, so a norm of it is a kernel of its
own. Where the stream is the last step of a linear's kernel it stays so; where rows are summed in a
kernel of their own (experts, norms before a sum, embeddings), the norm is computed beside the sum:
one launch, and the row is written once and never read back.
"""

from dataclasses import replace

from banyan.compiler.ir.attributes import integers
from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.groups import group_of
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.passes.fuse import Fusion


def join_rows(graph: Graph, fusion: Fusion) -> Fusion:
    """Let one kernel compute a value and what is made of its whole rows."""
    position = {node: i for i, node in enumerate(graph.nodes())}
    siblings = dict(fusion.siblings)
    for node in graph.nodes():
        if not _is_row(node, fusion) or node in siblings:
            continue
        inside, read = group_of([node], fusion.memory.__contains__)
        inside.sort(key=position.__getitem__)
        for stream in read:
            alike = _is_row(stream, fusion) and stream.shape == node.shape
            before = {*group_of([stream], fusion.memory.__contains__)[1], *read} - {stream}
            ready = all(position[other] < position[stream] for other in before)
            if alike and ready and stream not in siblings and _norms(inside, stream):
                siblings |= dict.fromkeys((stream, node), (stream, node))
                break
    return replace(fusion, siblings=siblings)


def _is_row(node: Node, fusion: Fusion) -> bool:
    """Is it computed by a kernel for each of its rows?"""
    alone = node in fusion.memory and node not in fusion.products
    return alone and node.op in POINTWISE and node.tensor.rank > 1


def _norms(inside: list[Node], stream: Node) -> bool:
    """Do these nodes, in order, reduce rows of `stream` and read them in no other way?"""
    rows, reduced = {stream}, False
    for node in inside:
        if not rows.isdisjoint(node.args):
            if node.op in POINTWISE:
                rows.add(node)
            elif node.op == "reduce" and integers(node, "axes") == (stream.tensor.rank - 1,):
                reduced = True
            else:
                return False
    return reduced
