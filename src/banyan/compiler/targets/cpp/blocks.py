"""Products with blocks that lie anywhere, such as pages of a cache: read where they lie.

The second operand of a packed dot may be one gather of whole blocks. Side by side
(`reshape(permute(load))`) they are columns, one after the other (`reshape(load)`) they are lines.
A micro-kernel takes their addresses.
"""

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.operations import PANEL_COLUMNS
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.accesses import Access, access_of, offset_of, scalar_index
from banyan.compiler.targets.cpp.bounds import Facts
from banyan.compiler.targets.cpp.elements import Elements, Indices
from banyan.compiler.targets.cpp.expressions import STORED
from banyan.compiler.targets.cpp.indices import Index
from banyan.compiler.targets.cpp.nest import Axis, Nest, print_nest
from banyan.compiler.targets.cpp.scope import Blocks, Scope


def blocks_of(operand: Node, facts: Facts) -> Blocks | None:
    """The blocks that the second operand of a packed dot is made of; None for any other.

    Blocks of int8 that are multiplied as bfloat16 are widened by the micro-kernel.
    """
    if operand.op != "reshape":
        return None
    tile = operand.args[0]
    is_columns = tile.op == "permute"
    if is_columns:
        if tile.attr("order") != (1, 0, 2, 3):
            return None
        tile = tile.args[0]
    if tile.op == "cast" and (tile.dtype, tile.args[0].dtype) == (DType.BFLOAT16, DType.INT8):
        tile = tile.args[0]
    numbers = _numbers(tile, facts)
    if numbers is None:
        return None
    count, lines, width, pack = tile.shape
    shape = (lines, count * width, pack) if is_columns else (count * lines, width, pack)
    if operand.shape != shape or (is_columns and width != PANEL_COLUMNS):
        return None
    return Blocks(tile, is_columns, numbers)


def _numbers(load: Node, facts: Facts) -> Node | None:
    """Which blocks a load gathers whole; None for any other node."""
    if load.op != "load" or len(load.shape) != 4:
        return None
    access = access_of(load)
    is_whole = access.gather_rank == 1 and all(
        _is_whole(access, axis, facts) for axis in range(len(access.kinds))
    )
    if access.kinds.count("gather") != 1 or not isinstance(load.shape[0], int) or not is_whole:
        return None
    return access.indices[access.kinds.index("gather")]


def _is_whole(access: Access, axis: int, facts: Facts) -> bool:
    """Everything of a range, one proved element, or the gathered axis itself."""
    kind, index, dim = access.kinds[axis], access.indices[axis], access.pointer.shape[axis]
    if kind == "gather":
        return True
    exact = facts.exactly(index)
    if kind == "range":
        return exact == 0 and access.sizes[axis] == dim
    return exact is not None and facts.is_natural(exact) and facts.is_below(exact, dim)


def addresses(scope: Scope, blocks: Blocks) -> str:
    """The name of an array of the addresses; null for blocks outside the tensor."""
    known = scope.blocks.get((blocks.tile, blocks.numbers))
    if known is not None:
        return known
    access = access_of(blocks.tile)
    pointer, shape = scope.pointers[access.pointer], access.pointer.shape
    axis = access.kinds.index("gather")
    name = scope.name("t")
    scope.emit(f"const {STORED[access.pointer.dtype]}* {name}[{blocks.count}];")

    def body(nest: Nest) -> None:
        def step(indices: Indices) -> None:
            elements = Elements(scope, nest)
            number = elements.as_index(elements.cell(blocks.numbers, indices))
            found = [
                number if i == axis else scalar_index(scope, index) if kind == "at" else Index()
                for i, (kind, index) in enumerate(zip(access.kinds, access.indices, strict=True))
            ]
            place = offset_of(scope, shape, found)
            inside = (
                f"static_cast<uint64_t>({number}) < static_cast<uint64_t>({scope.dim(shape[axis])})"
            )
            address = f"{inside} ? {pointer} + {place} : nullptr"
            nest.emit(f"{name}[{indices[0]}] = {address};")

        nest.loops([Axis(blocks.count)], step)

    scope.lines += print_nest(body, scope.symbols, scope.dialect)
    scope.blocks[blocks.tile, blocks.numbers] = name
    return name
