"""Matrix products: calls of the micro-kernels, and plain loops for the rest."""

from dataclasses import dataclass

from banyan.compiler.ir.attributes import integer
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.operations import PANEL_COLUMNS
from banyan.compiler.ir.quantized import BLOCK_COLUMNS, STORED
from banyan.compiler.ir.symbols import Dim, product, upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp import expressions
from banyan.compiler.targets.cpp.accesses import (
    Access,
    Position,
    access_of,
    check_text,
    is_inside,
    offset_of,
    pointer_strides,
    scalar_index,
    scalar_text,
)
from banyan.compiler.targets.cpp.accumulation import is_tile_dot
from banyan.compiler.targets.cpp.blocks import addresses, blocks_of
from banyan.compiler.targets.cpp.bounds import Facts
from banyan.compiler.targets.cpp.indices import Index, Variable
from banyan.compiler.targets.cpp.registry import Operation, choose
from banyan.compiler.targets.cpp.scope import Blocks, Buffer, Scope
from banyan.foundation.errors import CompilationFailed

SESSION = "session"


@dataclass(frozen=True, slots=True)
class Operand:
    """A tile as a micro-kernel takes it.

    Attributes:
        text: pointer to its first element.
        strides: text of the stride of each dim, in elements.
        sizes: text of how many elements of each dim lie inside the tensor.
        is_clipped: for each dim whether that may be fewer than the tile has.
        condition: whether the tile lies inside the tensor in its other dims; None when proved.
    """

    text: str
    strides: tuple[str, ...]
    sizes: tuple[str, ...]
    is_clipped: tuple[bool, ...]
    condition: str | None = None


def is_direct_operand(node: Node, user: Node, facts: Facts) -> bool:
    """True for a load that the dot `user` can read where it lies.

    Only its rows (a dot's first range) may reach past the end of the tensor.
    """
    if node.op != "load":
        return False
    access = access_of(node)
    if "gather" in access.kinds or access.kinds[-1] != "range":
        return False
    ranges = [i for i, kind in enumerate(access.kinds) if kind == "range"]
    is_batched = user.op == "dot" and not dict(user.attrs).get("packed") and len(ranges) > 2
    for i in ranges:
        exact = facts.exactly(access.indices[i])
        if exact is None or not facts.is_natural(exact):
            return False
        may_clip = i == ranges[0] and not is_batched and len(ranges) > 1
        last = exact + access.sizes[i] - 1
        if not may_clip and not facts.is_below(last, access.pointer.shape[i]):
            return False
    return True


def is_gathered_operand(node: Node, user: Node, facts: Facts) -> bool:
    """True for blocks whose addresses the dot `user` can take."""
    return is_tile_dot(user) and node is user.args[1] and blocks_of(node, facts) is not None


def operand(scope: Scope, node: Node) -> Operand:
    """The tile `node`, kept in scratch or read where it lies."""
    held = scope.values.get(node)
    if isinstance(held, Buffer):
        sizes = tuple(scope.dim(d) for d in node.shape)
        clipped = (False,) * len(sizes)
        return Operand(held.text, tuple(map(str, held.strides)), sizes, clipped)
    return loaded_operand(scope, node)


def loaded_operand(scope: Scope, node: Node) -> Operand:
    """The tile of a load, read where it lies."""
    access = access_of(node)
    shape = access.pointer.shape
    starts = [scalar_index(scope, index) for index in access.indices]
    strides = pointer_strides(shape)
    offset = offset_of(scope, shape, starts)
    ranges = [i for i, kind in enumerate(access.kinds) if kind == "range"]
    clips = [_clipped_size(scope, access, i) for i in ranges]
    conditions = [
        text
        for i, kind in enumerate(access.kinds)
        if kind == "at" and (text := _condition(scope, access, i)) is not None
    ]
    return Operand(
        f"{scope.pointers[access.pointer]} + {offset}",
        tuple(scope.dim(strides[i]) for i in ranges),
        tuple(text for text, _ in clips),
        tuple(clipped for _, clipped in clips),
        " && ".join(conditions) if conditions else None,
    )


def _clipped_size(scope: Scope, access: Access, axis: int) -> tuple[str, bool]:
    start, size = access.indices[axis], access.sizes[axis]
    dim = access.pointer.shape[axis]
    return clipped_extent(scope, start, size, dim)


def clipped_extent(scope: Scope, start: Node, size: Dim, dim: Dim) -> tuple[str, bool]:
    """How many of `size` elements from `start` lie in a dim, and whether that may be fewer."""
    whole = Variable("", 0, 0, upper_bound(size) - 1, None, size)
    step = Index(((whole, 1),))
    position = Position(start, step, step)
    text = scalar_text(scope, start)
    if is_inside(scope.facts, position, dim, text)[1]:
        return scope.dim(size), False
    rest = scope.dim(dim) if text == "int64_t(0)" else f"{scope.dim(dim)} - {text}"
    return f"minimum(index_t({scope.dim(size)}), index_t({rest}))", True


def _condition(scope: Scope, access: Access, axis: int) -> str | None:
    start, dim = access.indices[axis], access.pointer.shape[axis]
    index = scalar_index(scope, start)
    position = Position(start, index, Index())
    low, high = is_inside(scope.facts, position, dim, scalar_text(scope, start))
    if low and high:
        return None
    return f"({check_text(index, scope.dim(dim), low=low, high=high)})"


@dataclass(frozen=True, slots=True)
class MicroKernels:
    """Products by the micro-kernels of one instruction set."""

    instruction_set: str

    def print_dot(self, scope: Scope, node: Node) -> Buffer:
        """Print a product into a float32 tile of its own."""
        return print_dot(scope, node, self.instruction_set)

    def add_dot(self, scope: Scope, node: Node, target: Buffer) -> None:
        """Print a product with a packed block that adds to a float32 tile."""
        add_tile_dot(scope, node, target)


def print_dot(scope: Scope, node: Node, instruction_set: str) -> Buffer:
    """Print a dot or packed_dot; its result is a float32 buffer."""
    if node.op == "packed_dot":
        return _packed_dot(scope, node, instruction_set)
    if node.op == "quantize_rows":
        return _quantize_row(scope, node)
    if node.op == "quantized_dot":
        return _quantized_dot(scope, node, instruction_set)
    if dict(node.attrs).get("packed"):
        return _tile_dot(scope, node)
    return _plain_dot(scope, node)


def _packed_dot(scope: Scope, node: Node, instruction_set: str) -> Buffer:
    a, weight = node.args
    if len(a.shape) != 2:
        raise CompilationFailed(f"packed_dot inside a kernel takes a tile of rows, not {a.type}")
    lines, width = weight.shape[-3], weight.shape[-1]
    panels, depth = weight.shape[-4], a.shape[-1]
    rows_of_a, panels_of_w = operand(scope, a), operand(scope, weight)
    columns = panels * PANEL_COLUMNS
    target = scope.allocate((a.shape[0], columns), DType.FLOAT32)
    name = choose(Operation.LINEAR, instruction_set, a.dtype, weight.dtype).function
    rows, count = rows_of_a.sizes[0], panels_of_w.sizes[0]
    lda, stride = rows_of_a.strides[0], target.strides[0]
    _clear_if(scope, target, rows_of_a, panels_of_w, scope.dim(a.shape[0]))
    guard = _guard(rows_of_a, panels_of_w)
    # The kernels space float32 panels by the true depth; a padded one is read panel by panel.
    if weight.dtype is DType.BFLOAT16 or lines * width == depth:
        scope.emit(
            f"{guard}{name}({rows_of_a.text}, {lda}, {panels_of_w.text}, "
            f"{scope.dim(depth)}, {rows}, {count}, {target.text}, {stride});"
        )
        return target
    scope.emit(
        f"{guard}for (int64_t panel = 0; panel < {count}; ++panel) "
        f"{name}({rows_of_a.text}, {lda}, {panels_of_w.text} + "
        f"panel * {panels_of_w.strides[0]}, {scope.dim(depth)}, {rows}, 1, "
        f"{target.text} + panel * {PANEL_COLUMNS}, {stride});"
    )
    return target


def _quantize_row(scope: Scope, node: Node) -> Buffer:
    (x,) = node.args
    row, target = operand(scope, x), scope.allocate(node.shape, DType.INT8)
    name = choose(Operation.QUANTIZE_ROWS, "portable", x.dtype, DType.INT8).function
    sizes = f"{scope.dim(x.shape[-1])}, {integer(node, 'group')}"
    scope.emit(f"{_guard(row)}{name}({row.text}, {sizes}, {target.text});")
    return target


def _quantized_dot(scope: Scope, node: Node, instruction_set: str) -> Buffer:
    rows, *weights = node.args
    blocks = weights[0].shape[0]
    parts = [operand(scope, part) for part in node.args]
    target = scope.allocate((rows.shape[0], blocks * BLOCK_COLUMNS), DType.FLOAT32)
    held = DType.INT8 if node.attr("activation") == "int8" else rows.dtype
    stored = STORED[str(node.attr("format"))]
    name = choose(Operation.QUANTIZED_LINEAR, instruction_set, held, stored).function
    zeros = parts[3].text if len(parts) > 3 else "nullptr"
    depth = f"{integer(node, 'depth')}, {integer(node, 'group')}"
    weight = f"banyan::quantized::Weight{{{parts[1].text}, {parts[2].text}, {zeros}, {depth}}}"
    _clear_if(scope, target, parts[0], parts[1], scope.dim(rows.shape[0]))
    scope.emit(
        f"{_guard(*parts)}{name}({parts[0].text}, {parts[0].strides[0]}, {weight}, "
        f"{parts[0].sizes[0]}, {parts[1].sizes[0]}, {target.text}, {target.strides[0]});"
    )
    return target


def _tile_dot(scope: Scope, node: Node) -> Buffer:
    a, block = node.args
    target = scope.allocate((a.shape[0], block.shape[1]), DType.FLOAT32)
    if _gathered(scope, block) is not None:
        add_tile_dot(scope, node, target, accumulate=False)
        return target
    left, right = operand(scope, a), operand(scope, block)
    is_clipped = any(left.is_clipped) or any(right.is_clipped)
    if is_clipped:
        _clear(scope, target, scope.dim(a.shape[0]))
    add_tile_dot(scope, node, target, accumulate=is_clipped)
    if _guard(left, right) and not is_clipped:
        scope.emit("else")
        _clear(scope, target, scope.dim(a.shape[0]))
    return target


def add_tile_dot(scope: Scope, node: Node, target: Buffer, *, accumulate: bool = True) -> None:
    """Print a dot with a packed block that adds to `target`, or overwrites it."""
    a, block = node.args
    blocks = _gathered(scope, block)
    if blocks is not None:
        _add_block_dot(scope, node, blocks, target, accumulate=accumulate)
        return
    left, right = operand(scope, a), operand(scope, block)
    columns = block.shape[1]
    whole = isinstance(columns, int) and columns % PANEL_COLUMNS == 0
    name = "tile_dot" if whole else "tile_dot_of_any_width"
    scope.emit(
        f"{_guard(left, right)}banyan::{name}({SESSION}, {left.text}, {left.strides[0]}, "
        f"{right.text}, {right.strides[0]}, {scope.dim(a.shape[1])}, {left.sizes[0]}, "
        f"{scope.dim(block.shape[1])}, {target.text}, {target.strides[0]}, "
        f"{'true' if accumulate else 'false'});"
    )


def _gathered(scope: Scope, block: Node) -> Blocks | None:
    return None if block in scope.values else blocks_of(block, scope.facts)


def _add_block_dot(
    scope: Scope, node: Node, blocks: Blocks, target: Buffer, *, accumulate: bool
) -> None:
    a, block = node.args
    left = operand(scope, a)
    if left.condition is not None or any(left.is_clipped):
        raise CompilationFailed("rows multiplied with gathered blocks must lie in one piece")
    here = addresses(scope, blocks)
    following = scope.ahead.get(node)
    stored = expressions.STORED[blocks.tile.dtype]
    nothing = f"static_cast<const {stored}* const*>(nullptr)"
    ahead = nothing if following is None else addresses(scope, following)
    if blocks.tile.dtype is not block.dtype:
        wide = scope.allocate((product(block.shape),), block.dtype)
        ahead = f"{ahead}, {wide.text}"
    depth = scope.dim(a.shape[1])
    shape, rest = f"{depth}, {left.sizes[0]}", ""
    if not blocks.is_columns:
        shape = f"{depth} / {blocks.count}, {left.sizes[0]}, {scope.dim(block.shape[1])}"
        rest = f", {'true' if accumulate else 'false'}"
    elif accumulate:
        raise CompilationFailed("a product with blocks side by side adds to nothing")
    scope.emit(
        f"banyan::block_{'columns' if blocks.is_columns else 'rows'}({SESSION}, {left.text}, "
        f"{left.strides[0]}, {here}, {blocks.count}, {shape}, {target.text}, "
        f"{target.strides[0]}{rest}, {ahead});"
    )


def _plain_dot(scope: Scope, node: Node) -> Buffer:
    a, b = node.args
    transposed = bool(dict(node.attrs).get("transpose_b"))
    left, right = operand(scope, a), operand(scope, b)
    target = scope.allocate(node.shape, DType.FLOAT32)
    sizes = tuple(scope.dim(d) for d in node.shape)
    _clear_if(scope, target, left, right, sizes[0])
    offsets = ["", "", ""]
    for axis in range(len(node.shape) - 2):
        name = scope.name("b")
        scope.emit(f"for (int64_t {name} = 0; {name} < {sizes[axis]}; ++{name}) {{")
        strides = (left.strides[axis], right.strides[axis], str(target.strides[axis]))
        offsets = [f"{o} + {name} * {s}" for o, s in zip(offsets, strides, strict=True)]
    depth = left.sizes[-1]
    across = right.sizes[-2] if transposed else right.sizes[-1]
    scope.emit(
        f"{_guard(left, right)}{'dot_rows' if transposed else 'dot_columns'}("
        f"{left.text}{offsets[0]}, {left.strides[-2]}, {right.text}{offsets[1]}, "
        f"{right.strides[-2]}, {target.text}{offsets[2]}, {target.strides[-2]}, "
        f"{left.sizes[-2]}, {across}, {depth});"
    )
    scope.lines += ["}"] * (len(node.shape) - 2)
    return target


def _guard(*operands: Operand) -> str:
    conditions = [o.condition for o in operands if o.condition is not None]
    return f"if ({' && '.join(conditions)}) " if conditions else ""


def _clear_if(scope: Scope, target: Buffer, left: Operand, right: Operand, rows: str) -> None:
    """Zero the result first when part of it may not be computed."""
    clipped = any(left.is_clipped) or any(right.is_clipped)
    if clipped or left.condition is not None or right.condition is not None:
        _clear(scope, target, rows)


def _clear(scope: Scope, target: Buffer, rows: str) -> None:
    count = f"int64_t({rows}) * {target.strides[0]}"
    scope.emit(f"std::memset({target.text}, 0, {count} * sizeof(float));")
