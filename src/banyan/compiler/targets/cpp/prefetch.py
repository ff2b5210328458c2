"""Blocks of a cache that a loop step will multiply with, asked for before they are needed.

With few rows a step spends its time waiting for memory: every block lies somewhere else, so the
hardware cannot guess the next one. All addresses of a step are known from its scalars, so these
are printed first and all blocks are asked for at once.
"""

from collections.abc import Sequence

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import product
from banyan.compiler.ir.types import TupleType
from banyan.compiler.targets.cpp.dots import is_direct_operand, loaded_operand
from banyan.compiler.targets.cpp.scope import Scope

MOST_ROWS = 8
"""With more rows the arithmetic takes longer than the memory."""


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


def print_prefetches(scope: Scope, nodes: Sequence[Node]) -> None:
    """Ask for every packed block that a dot among `nodes` reads where it lies."""
    for node in nodes:
        if node.op != "dot" or dict(node.attrs).get("packed") is not True:
            continue
        rows, block = node.args
        if block in scope.values or not is_direct_operand(block, node, scope.facts):
            continue
        found = loaded_operand(scope, block)
        size = scope.dim(product(block.shape) * block.dtype.num_bytes)
        conditions = [f"{scope.dim(rows.shape[0])} <= {MOST_ROWS}"]
        if found.condition is not None:
            conditions.append(found.condition)
        scope.emit(f"if ({' && '.join(conditions)}) fetch({found.text}, {size});")
