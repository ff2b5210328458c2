"""Blocks of a cache that a loop step will multiply with, asked for before they are needed.

With few rows a step spends its time waiting for memory: every block lies somewhere else, so the
hardware cannot guess the next one. All addresses of a step are known from its scalars, so these
are printed first, and every product is told the blocks of the product behind it; the last one of a
step those of the next step, where the loop carries their numbers.
"""

from collections.abc import Sequence

from banyan.compiler.ir.graph import Node, Region
from banyan.compiler.ir.types import TupleType
from banyan.compiler.targets.cpp.accesses import access_of
from banyan.compiler.targets.cpp.blocks import addresses, blocks_of
from banyan.compiler.targets.cpp.scope import Blocks, Scope


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


def note_following_blocks(scope: Scope, dots: Sequence[Node], region: Region) -> None:
    """Note for each dot with gathered blocks which ones the next such dot reads.

    Args:
        scope: its `ahead` is filled.
        dots: the packed dots of a region in the order they run.
        region: where they stand; the last one looks at its next step.
    """
    found = [(dot, blocks_of(dot.args[1], scope.facts)) for dot in dots]
    reading = [(dot, blocks) for dot, blocks in found if blocks is not None]
    if not reading:
        return
    first = reading[0][1]
    carried = region.parameters[1:]
    following = [blocks for _, blocks in reading[1:]]
    if first.numbers in carried and len(carried) == len(region.results):
        next_numbers = region.results[carried.index(first.numbers)]
        following.append(Blocks(first.tile, first.is_columns, next_numbers))
    for (dot, blocks), after in zip(reading, following, strict=False):
        if after.tile.dtype is blocks.tile.dtype and after.count == blocks.count:
            scope.ahead[dot] = after


def fetch_following_rows(scope: Scope, nodes: Sequence[Node], region: Region) -> None:
    """Ask for the rows beside the blocks, such as their scales, that the next step gathers."""
    carried = region.parameters[1:]
    if len(carried) != len(region.results):
        return
    for node in nodes:
        if node.op != "load" or len(node.shape) != 2 or not isinstance(node.shape[0], int):
            continue
        access = access_of(node)
        gathered = [i for k, i in zip(access.kinds, access.indices, strict=True) if k == "gather"]
        if len(gathered) == 1 and gathered[0] in carried:
            following = region.results[carried.index(gathered[0])]
            places = addresses(scope, Blocks(node, False, following))
            index = scope.name("i")
            scope.emit(f"for (int {index} = 0; {index} < {node.shape[0]}; ++{index})")
            scope.emit(f"  __builtin_prefetch({places}[{index}]);")
