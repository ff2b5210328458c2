"""Products with blocks that lie anywhere, such as pages of a cache: read where they lie.

The second operand of a packed dot may be one gather of whole blocks. Side by side
(`reshape(permute(load))`) they are columns, one after the other (`reshape(load)`) they are lines.
A micro-kernel takes their addresses.

With few rows a step spends its time waiting for memory: every block lies somewhere else, so the
hardware cannot guess the next one. All addresses of a step are known from its scalars, so these
are printed first, and every product is told the blocks of the product behind it; the last one of a
step those of the next step, where the loop carries their numbers.
"""

from collections.abc import Sequence

from banyan.compiler.ir.access import access_of
from banyan.compiler.ir.cached import NIBBLE_MIDDLE
from banyan.compiler.ir.graph import Node, Region
from banyan.compiler.ir.match import fill_value
from banyan.compiler.ir.nibbles import packed_bytes
from banyan.compiler.ir.operations import PANEL_COLUMNS
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType, TupleType
from banyan.compiler.targets.cpp.bounds import Facts
from banyan.compiler.targets.cpp.elements import Elements, Indices, print_elements
from banyan.compiler.targets.cpp.expressions import STORED
from banyan.compiler.targets.cpp.indices import Index
from banyan.compiler.targets.cpp.nest import Axis
from banyan.compiler.targets.cpp.scope import Blocks, Scope


def blocks_of(operand: Node, facts: Facts) -> Blocks | None:
    """The blocks that the second operand of a packed dot is made of; None for any other.

    Quantised blocks that are multiplied as bfloat16 are widened by the micro-kernel.
    """
    if operand.op != "reshape":
        return None
    tile = operand.args[0]
    is_columns = tile.op == "permute" and tile.attr("order") == (1, 0, 2, 3)
    if is_columns:
        tile = tile.args[0]
    count, lines, width, pack = tile.shape if len(tile.shape) == 4 else (0, 0, 0, 0)
    tile = _stored(tile, is_columns=is_columns)
    numbers = _numbers(tile, facts)
    if numbers is None:
        return None
    shape = (lines, count * width, pack) if is_columns else (count * lines, width, pack)
    if operand.shape != shape or (is_columns and width != PANEL_COLUMNS):
        return None
    return Blocks(tile, is_columns, numbers)


def _stored(tile: Node, *, is_columns: bool) -> Node:
    """What lies in memory where a micro-kernel knows how to widen it to `tile`."""
    if tile.dtype is not DType.BFLOAT16:
        return tile
    if tile.op == "cast" and tile.args[0].dtype in {DType.INT8, DType.FLOAT8_E4M3}:
        return tile.args[0]
    rows = tile
    if not is_columns and tile.op == "permute" and tile.attr("order") == (0, 1, 3, 2):
        rows = tile.args[0]
        rows = rows.args[0] if rows.op == "reshape" else rows
    is_centred = rows.op == "sub" and fill_value(rows.args[1]) == NIBBLE_MIDDLE
    if not is_centred or rows.args[0].op != "cast":
        return tile
    packed = packed_bytes(rows.args[0].args[0])
    in_rows = is_columns or rows is not tile
    return packed if packed is not None and in_rows else tile


def _numbers(load: Node, facts: Facts) -> Node | None:
    """Which blocks a load gathers whole; None for any other node."""
    if load.op != "load" or len(load.shape) != 4 or not isinstance(load.shape[0], int):
        return None
    access = access_of(load)
    is_whole = all(_is_whole(facts, *dim) for dim in access.dims)
    if len(access.gathered) != 1 or access.gather_rank != 1 or not is_whole:
        return None
    return access.gathered[0]


def _is_whole(facts: Facts, kind: str, index: Node, size: Dim, dim: Dim) -> bool:
    """Everything of a range, one proved element, or the gathered axis itself."""
    if kind == "gather":
        return True
    exact = facts.exactly(index)
    if kind == "range":
        return exact == 0 and size == dim
    return exact is not None and facts.is_natural(exact) and facts.is_below(exact, dim)


def addresses(scope: Scope, blocks: Blocks) -> str:
    """The name of an array of the addresses; null for blocks outside the tensor."""
    known = scope.blocks.get((blocks.tile, blocks.numbers))
    if known is not None:
        return known
    access = access_of(blocks.tile)
    pointer, shape = scope.pointers[access.pointer], access.pointer.shape
    name = scope.name("t")
    scope.emit(f"const {STORED[access.pointer.dtype]}* {name}[{blocks.count}];")

    def body(elements: Elements) -> None:
        def step(indices: Indices) -> None:
            number = elements.as_index(elements.cell(blocks.numbers, indices))
            found = [
                number if kind == "gather" else scope.index(index) if kind == "at" else Index()
                for kind, index, *_ in access.dims
            ]
            place = scope.number(shape, found)
            inside = scope.condition(number, shape[access.kinds.index("gather")])
            elements.nest.emit(f"{name}[{indices[0]}] = {inside} ? {pointer} + {place} : nullptr;")

        elements.nest.loops([Axis(blocks.count)], step)

    print_elements(scope, body)
    scope.blocks[blocks.tile, blocks.numbers] = name
    return name


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


def fetch_rows(scope: Scope, nodes: Sequence[Node], region: Region) -> None:
    """Ask for the rows beside the blocks of a step, such as their scales, before its products."""
    for node in nodes:
        if node.op != "load" or len(node.shape) != 2 or not isinstance(node.shape[0], int):
            continue
        gathered = access_of(node).gathered
        if len(gathered) == 1 and gathered[0] in region.parameters[1:]:
            places = addresses(scope, Blocks(node, False, gathered[0]))
            index = scope.name("i")
            scope.emit(f"for (int {index} = 0; {index} < {node.shape[0]}; ++{index})")
            scope.emit(f"  __builtin_prefetch({places}[{index}]);")
