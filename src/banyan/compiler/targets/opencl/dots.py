"""Matrix products in OpenCL C: each work-item multiplies small blocks, four rows by four columns.

Weights are read where they lie, unpacked; nothing but multiplication in float is assumed of the
chip.
"""

from collections.abc import Callable
from dataclasses import dataclass

from banyan.compiler.ir.attributes import has
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.dots import open_batches, operand
from banyan.compiler.targets.cpp.expressions import from_memory
from banyan.compiler.targets.cpp.scope import Buffer, Scope
from banyan.compiler.targets.opencl.dialect import BARRIER
from banyan.foundation.errors import CompilationFailed

ROWS, COLUMNS = 4, 4

Element = Callable[[str, str], str]
"""The text of an element of one side at (outer, depth), outer being its row or column."""


@dataclass(frozen=True, slots=True)
class _Product:
    """C[rows, columns] (+)= left * right, and where C lies."""

    left: Element
    right: Element
    rows: str
    columns: str
    depth: str
    target: str
    stride: str
    accumulate: bool


@dataclass(frozen=True, slots=True)
class BlockedProducts:
    """The `Products` of OpenCL C."""

    def print_dot(self, scope: Scope, node: Node) -> Buffer:
        """Print a product into a float32 tile of its own."""
        target = scope.allocate(node.shape, DType.FLOAT32)
        self._print(scope, node, target, accumulate=False)
        return target

    def add_dot(self, scope: Scope, node: Node, target: Buffer) -> None:
        """Print a product that adds to a float32 tile."""
        self._print(scope, node, target, accumulate=True)

    def _print(self, scope: Scope, node: Node, target: Buffer, *, accumulate: bool) -> None:
        if node.op != "dot":
            raise CompilationFailed(f"the OpenCL target cannot print {node.op!r}")
        a, b = node.args
        left, right = operand(scope, a), operand(scope, b)
        scope.emit("{")
        offsets = open_batches(scope, node, left, right, target)
        columns_first, packed = has(node, "transpose_b"), has(node, "packed")
        along, across = "{0} * STRIDE + {1}", "{1} * STRIDE + {0}"
        address = along if columns_first else across
        width, stride = b.shape[-1], right.strides[0 if packed else -2]
        if packed and width != 1:
            # Lines of `width` neighbours in depth for each column.
            address = f"{{1}} / {width} * STRIDE + {{0}} * {width} + {{1}} % {width}"
        product = _Product(
            _element(f"{left.text}{offsets[0]}", a.dtype, along, left.strides[-2]),
            _element(f"{right.text}{offsets[1]}", b.dtype, address, stride),
            scope.dim(node.shape[-2]),
            scope.dim(node.shape[-1]),
            scope.dim(a.shape[-1]),
            f"{target.text}{offsets[2]}",
            str(target.strides[-2]),
            accumulate,
        )
        columns = right.sizes[1 if packed else -2 if columns_first else -1]
        conditions = [c for c in (left.condition, right.condition) if c]
        scope.lines += _text(product, (left.sizes[-2], columns), conditions)
        scope.lines += ["}"] * (len(node.shape) - 1)
        scope.emit(BARRIER)


def _element(text: str, dtype: DType, address: str, stride: str) -> Element:
    form = address.replace("STRIDE", stride)
    return lambda outer, depth: from_memory(f"({text})[{form.format(outer, depth)}]", dtype)


def _text(product: _Product, inside: tuple[str, str], conditions: list[str]) -> list[str]:
    """The loop over blocks that work-items share: four rows each, the last rows one by one."""
    rows_inside, columns_inside = inside
    tests = [f"{size} > 0" for size in inside if not size.isdigit()] + conditions
    depth = f"{' && '.join(tests)} ? {product.depth} : 0" if tests else product.depth
    return [
        f"const index_t rows = {product.rows}, columns = {product.columns};",
        f"const index_t last_row = {rows_inside} - 1, last_column = {columns_inside} - 1;",
        f"const index_t depth = {depth};",
        f"const index_t full = rows / {ROWS}, across = (columns + {COLUMNS - 1}) / {COLUMNS};",
        f"const index_t blocks = (full + rows % {ROWS}) * across;",
        "for (index_t block = LANE; block < blocks; block += LANES) {",
        f"const index_t column = block % across * {COLUMNS}, line = block / across;",
        "if (line < full) {",
        f"const index_t row = line * {ROWS};",
        *_block(product, ROWS),
        "} else {",
        f"const index_t row = full * {ROWS} + line - full;",
        *_block(product, 1),
        "}",
        "}",
    ]


def _block(product: _Product, num_rows: int) -> list[str]:
    rows, columns = range(num_rows), range(COLUMNS)
    lines = [f"const index_t r{i} = minimum(row + {i}, last_row);" for i in rows]
    lines += [f"const index_t c{j} = minimum(column + {j}, last_column);" for j in columns]
    lines += [f"float s{i}{j} = 0.0f;" for i in rows for j in columns]
    lines.append("for (index_t k = 0; k < depth; ++k) {")
    lines += [f"const float x{i} = {product.left(f'r{i}', 'k')};" for i in rows]
    lines += [f"const float y{j} = {product.right(f'c{j}', 'k')};" for j in columns]
    lines += [f"s{i}{j} += x{i} * y{j};" for i in rows for j in columns]
    lines.append("}")
    for i in rows:
        for j in columns:
            place = f"({product.target})[(row + {i}) * {product.stride} + column + {j}]"
            inside = f"row + {i} <= last_row && column + {j} <= last_column"
            value = f"({inside} ? s{i}{j} : 0.0f)"
            sign = "+=" if product.accumulate else "="
            lines.append(f"if (column + {j} < columns) {place} {sign} {value};")
    return lines
