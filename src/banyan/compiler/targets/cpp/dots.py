"""Matrix products: calls of the micro-kernels, and plain loops for the rest."""

from dataclasses import dataclass

from banyan.compiler.ir.access import access_of
from banyan.compiler.ir.attributes import has, integer
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.operations import PANEL_COLUMNS
from banyan.compiler.ir.quantized import BLOCK_COLUMNS, STORED
from banyan.compiler.ir.symbols import Dim, product, strides
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp import expressions
from banyan.compiler.targets.cpp.blocks import addresses, blocks_of
from banyan.compiler.targets.cpp.bounds import Facts
from banyan.compiler.targets.cpp.indices import Index
from banyan.compiler.targets.cpp.materialise import is_tile_dot
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
        is_clipped: whether that may be fewer than the tile has.
        condition: that the tile lies inside the tensor in its other dims; empty when proved.
    """

    text: str
    strides: tuple[str, ...]
    sizes: tuple[str, ...]
    is_clipped: bool = False
    condition: str = ""


def is_direct_operand(node: Node, user: Node, facts: Facts) -> bool:
    """True for a load that the dot `user` can read where it lies.

    Only its rows (a dot's first range) may reach past the end of the tensor.
    """
    if node.op != "load":
        return False
    access = access_of(node)
    if access.gathered or access.kinds[-1] != "range":
        return False
    is_batched = user.op == "dot" and not has(user, "packed") and len(access.ranges) > 2
    for i in access.ranges:
        exact = facts.exactly(access.indices[i])
        if exact is None or not facts.is_natural(exact):
            return False
        may_clip = i == access.ranges[0] and not is_batched and len(access.ranges) > 1
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
        return Operand(held.text, tuple(map(str, held.strides)), tuple(map(scope.dim, node.shape)))
    return loaded_operand(scope, node)


def loaded_operand(scope: Scope, node: Node) -> Operand:
    """The tile of a load, read where it lies."""
    access = access_of(node)
    offset = scope.number(access.pointer.shape, [scope.index(index) for index in access.indices])
    apart = strides(access.pointer.shape)
    clips = [scope.clipped(i, size, dim) for kind, i, size, dim in access.dims if kind == "range"]
    checks = [scope.checked(i, Index(), dim) for kind, i, _, dim in access.dims if kind == "at"]
    return Operand(
        f"{scope.pointers[access.pointer]} + {offset}",
        tuple(scope.dim(apart[i]) for i in access.ranges),
        tuple(text for text, _ in clips),
        any(clipped for _, clipped in clips),
        " && ".join(f"({check})" for check in checks if check is not None),
    )


def guarded(*operands: Operand) -> str:
    """What stands before a statement that reads operands which may lie outside their tensor."""
    conditions = [operand.condition for operand in operands if operand.condition]
    return f"if ({' && '.join(conditions)}) " if conditions else ""


@dataclass(frozen=True, slots=True)
class MicroKernels:
    """Products by the micro-kernels of one instruction set."""

    instruction_set: str

    def print_dot(self, scope: Scope, node: Node) -> Buffer:
        """Print a product, or rows made ready for one, into a tile of its own."""
        if node.op == "packed_dot":
            return self._packed_dot(scope, node)
        if node.op == "quantize_rows":
            return _quantize_row(scope, node)
        if node.op == "quantized_dot":
            return self._quantized_dot(scope, node)
        if not is_tile_dot(node):
            return _plain_dot(scope, node)
        a, block = node.args
        shape = (a.shape[0], block.shape[1])
        if _gathered(scope, block) is not None:
            target = scope.allocate(shape, DType.FLOAT32)
            _add_block_dot(scope, node, target, accumulate=False)
            return target
        operands = operand(scope, a), operand(scope, block)
        target = _cleared(scope, shape, *operands)
        _add_tile_dot(scope, node, target, accumulate=_is_partial(*operands))
        return target

    def add_dot(self, scope: Scope, node: Node, target: Buffer) -> None:
        """Print a product with a packed block that adds to a float32 tile."""
        is_gathered = _gathered(scope, node.args[1]) is not None
        (_add_block_dot if is_gathered else _add_tile_dot)(scope, node, target, accumulate=True)

    def _packed_dot(self, scope: Scope, node: Node) -> Buffer:
        a, weight = node.args
        if len(a.shape) != 2:
            raise CompilationFailed(
                f"packed_dot inside a kernel takes a tile of rows, not {a.type}"
            )
        panels, lines, _, width = weight.shape[-4:]
        depth = a.shape[-1]
        rows, packed = operand(scope, a), operand(scope, weight)
        name = choose(Operation.LINEAR, self.instruction_set, a.dtype, weight.dtype).function
        target = _cleared(scope, (a.shape[0], panels * PANEL_COLUMNS), rows, packed)
        each, panel, count = "", "", packed.sizes[0]
        if weight.dtype is not DType.BFLOAT16 and lines * width != depth:
            # The kernels space float32 panels by the true depth; padded ones are read one by one.
            each = f"for (int64_t panel = 0; panel < {count}; ++panel) "
            panel, count = f" + panel * {packed.strides[0]}", "1"
        place = f"{target.text} + panel * {PANEL_COLUMNS}" if each else target.text
        scope.emit(
            f"{guarded(rows, packed)}{each}{name}({rows.text}, {rows.strides[0]}, "
            f"{packed.text}{panel}, {scope.dim(depth)}, {rows.sizes[0]}, {count}, {place}, "
            f"{target.strides[0]});"
        )
        return target

    def _quantized_dot(self, scope: Scope, node: Node) -> Buffer:
        rows, lines = node.args[0], node.args[1]
        parts = [operand(scope, part) for part in node.args]
        held = DType.INT8 if node.attr("activation") == "int8" else rows.dtype
        stored = STORED[str(node.attr("format"))]
        name = choose(Operation.QUANTIZED_LINEAR, self.instruction_set, held, stored).function
        zeros = parts[3].text if len(parts) > 3 else "nullptr"
        depth = f"{integer(node, 'depth')}, {integer(node, 'group')}"
        weight = f"banyan::quantized::Weight{{{parts[1].text}, {parts[2].text}, {zeros}, {depth}}}"
        target = _cleared(scope, (rows.shape[0], lines.shape[0] * BLOCK_COLUMNS), *parts[:2])
        scope.emit(
            f"{guarded(*parts)}{name}({parts[0].text}, {parts[0].strides[0]}, {weight}, "
            f"{parts[0].sizes[0]}, {parts[1].sizes[0]}, {target.text}, {target.strides[0]});"
        )
        return target


def _quantize_row(scope: Scope, node: Node) -> Buffer:
    (x,) = node.args
    row, target = operand(scope, x), scope.allocate(node.shape, DType.INT8)
    name = choose(Operation.QUANTIZE_ROWS, "portable", x.dtype, DType.INT8).function
    sizes = f"{scope.dim(x.shape[-1])}, {integer(node, 'group')}"
    scope.emit(f"{guarded(row)}{name}({row.text}, {sizes}, {target.text});")
    return target


def _add_tile_dot(scope: Scope, node: Node, target: Buffer, *, accumulate: bool) -> None:
    a, block = node.args
    left, right = operand(scope, a), operand(scope, block)
    columns = block.shape[1]
    whole = isinstance(columns, int) and columns % PANEL_COLUMNS == 0
    name = "tile_dot" if whole else "tile_dot_of_any_width"
    scope.emit(
        f"{guarded(left, right)}banyan::{name}({SESSION}, {left.text}, {left.strides[0]}, "
        f"{right.text}, {right.strides[0]}, {scope.dim(a.shape[1])}, {left.sizes[0]}, "
        f"{scope.dim(columns)}, {target.text}, {target.strides[0]}, "
        f"{'true' if accumulate else 'false'});"
    )


def _gathered(scope: Scope, block: Node) -> Blocks | None:
    return None if block in scope.values else blocks_of(block, scope.facts)


def _add_block_dot(scope: Scope, node: Node, target: Buffer, *, accumulate: bool) -> None:
    a, block = node.args
    left, blocks = operand(scope, a), _gathered(scope, block)
    if blocks is None or _is_partial(left):
        raise CompilationFailed("rows multiplied with gathered blocks must lie in one piece")
    here = addresses(scope, blocks)
    following = scope.ahead.get(node)
    nothing = f"static_cast<const {expressions.STORED[blocks.tile.dtype]}* const*>(nullptr)"
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
    transposed = has(node, "transpose_b")
    left, right = operand(scope, a), operand(scope, b)
    target = _cleared(scope, node.shape, left, right)
    offsets = open_batches(scope, node, left, right, target)
    across = right.sizes[-2] if transposed else right.sizes[-1]
    scope.emit(
        f"{guarded(left, right)}{'dot_rows' if transposed else 'dot_columns'}("
        f"{left.text}{offsets[0]}, {left.strides[-2]}, {right.text}{offsets[1]}, "
        f"{right.strides[-2]}, {target.text}{offsets[2]}, {target.strides[-2]}, "
        f"{left.sizes[-2]}, {across}, {left.sizes[-1]});"
    )
    scope.lines += ["}"] * (len(node.shape) - 2)
    return target


def open_batches(
    scope: Scope, node: Node, left: Operand, right: Operand, target: Buffer
) -> list[str]:
    """Open a loop for each batch dim of a dot; where the matrices of a step start."""
    offsets = ["", "", ""]
    for axis, size in enumerate(node.shape[:-2]):
        name = scope.name("b")
        scope.emit(f"for (index_t {name} = 0; {name} < {scope.dim(size)}; ++{name}) {{")
        apart = (left.strides[axis], right.strides[axis], target.strides[axis])
        offsets = [f"{o} + {name} * {stride}" for o, stride in zip(offsets, apart, strict=True)]
    return offsets


def _is_partial(*operands: Operand) -> bool:
    return any(operand.is_clipped or operand.condition for operand in operands)


def _cleared(scope: Scope, shape: tuple[Dim, ...], left: Operand, right: Operand) -> Buffer:
    """A tile for a product; zeros where part of it may not be computed."""
    target = scope.allocate(shape, DType.FLOAT32)
    if _is_partial(left, right):
        count = f"int64_t({scope.dim(shape[0])}) * {target.strides[0]}"
        scope.emit(f"std::memset({target.text}, 0, {count} * sizeof(float));")
    return target
