"""Blocks of a cache that a loop step will multiply with, asked for before they are needed.

With few rows a step spends its time waiting for memory: every block lies somewhere else, so the
hardware cannot guess the next one. All addresses of a step are known from its scalars, so these
are printed first, and every dot is told the block of the dot that follows it. It fetches that
block line by line while it multiplies: asking for whole blocks at once was measured to gain
nothing, because the processor can wait for a few dozen lines only.
"""

from collections.abc import Sequence
from itertools import pairwise

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.types import TupleType
from banyan.compiler.targets.cpp.dots import is_direct_operand, loaded_operand
from banyan.compiler.targets.cpp.scope import Scope


def scalars_first(nodes: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """Split a region's nodes: scalars that need only scalars, and the rest, both in order."""
    inside = set(nodes)
    first: list[Node] = []
    early: set[Node] = set()
    for node in nodes:
        is_scalar = not isinstance(node.type, TupleType) and node.shape == ()
        ready = all(arg in early or arg not in inside for arg in node.args)
        if is_scalar and node.op not in {"reduce", "get"} and ready:
            first.append(node)
            early.add(node)
    return first, [node for node in nodes if node not in early]


def note_following_blocks(scope: Scope, dots: Sequence[Node]) -> None:
    """Note for each dot with a packed block read where it lies which block comes next.

    Args:
        scope: its `ahead` is filled; names of the scalars that the addresses need are in reach.
        dots: the dots of a region in the order they run.
    """
    direct = [dot for dot in dots if _reads_block(scope, dot)]
    for dot, following in pairwise(direct):
        block = following.args[1]
        if block.dtype is dot.args[1].dtype:
            found = loaded_operand(scope, block)
            text = found.text
            if found.condition is not None:
                text = f"{found.condition} ? {text} : nullptr"
            scope.ahead[dot] = text


def _reads_block(scope: Scope, node: Node) -> bool:
    if node.op != "dot" or dict(node.attrs).get("packed") is not True:
        return False
    block = node.args[1]
    return block not in scope.values and is_direct_operand(block, node, scope.facts)
