"""Kernels of matrix products: one program for each block of rows and columns, with its epilogue."""

from dataclasses import dataclass

from banyan.compiler.ir.attributes import integer
from banyan.compiler.ir.graph import Kernel, Node, Region
from banyan.compiler.ir.operations import PANEL_COLUMNS
from banyan.compiler.ir.quantized import BLOCK_COLUMNS
from banyan.compiler.ir.symbols import Dim, ceil_divide
from banyan.compiler.tiling.options import LinearBlock, LinearShape, TileOptions
from banyan.compiler.tiling.windows import At, Span, Window
from banyan.compiler.tiling.writer import Writer


@dataclass(frozen=True, slots=True)
class _Block:
    """One axis of the grid: its length, its parameter, the bind it needs, what it covers."""

    programs: Dim
    parameter: Node
    binds: tuple[Node, ...]
    span: Span


def product_kernel(writer: Writer, root: Node, product: Node) -> Kernel:
    """The kernel of `product` with its epilogue up to `root`; both have one shape.

    Packed weights: grid (panel groups, batch..., row blocks), so that neighbouring programs read
    the same panels. Otherwise: grid (batch..., row blocks, column blocks).

    Raises:
        CannotPull: a node behind `root` must lie in memory.
    """
    packed = product.op in {"packed_dot", "quantized_dot"}
    options = writer.options
    if packed:
        block = _linear_block(product, options)
        unit = PANEL_COLUMNS if product.op == "packed_dot" else BLOCK_COLUMNS
        units = ceil_divide(root.shape[-1], unit)
        rows = _block(writer, root.shape[-2], block.rows, "block_rows", 1)
        step = max(1, block.panels * PANEL_COLUMNS // unit)
        across = _block(writer, units, step, "block_panels", unit)
    else:
        step = _column_step(writer, product)
        rows = _block(writer, root.shape[-2], options.product_rows, "block_rows", 1)
        across = _block(writer, root.shape[-1], step, "block_columns", 1)
    batch = tuple(writer.parameter() for _ in root.shape[:-2])
    window: Window = (*(At(parameter) for parameter in batch), rows.span, across.span)
    target = writer.builder.pointer("out", root.tensor, "write")
    store = writer.store(target, writer.tile(root, window), window)
    if packed:
        grid = (across.programs, *root.shape[:-2], rows.programs)
        parameters = (across.parameter, *batch, rows.parameter)
    else:
        grid = (*root.shape[:-2], rows.programs, across.programs)
        parameters = (*batch, rows.parameter, across.parameter)
    body = Region(parameters, (*rows.binds, *across.binds, store), ())
    name = "linear" if packed else "product"
    if root is not product:
        name = f"{name}_{root.op}"
    return Kernel(name, grid, (*writer.leaves.values(), target), body)


def _linear_block(product: Node, options: TileOptions) -> LinearBlock:
    left, panels = product.args[:2]
    depth, columns = left.shape[-1], product.shape[-1]
    if not isinstance(depth, int) or not isinstance(columns, int):
        return LinearBlock(options.row_block, options.panel_group)
    if product.op == "quantized_dot":
        shape = LinearShape(integer(product, "depth"), columns, str(product.attr("format")))
        return options.linear_block(shape)
    return options.linear_block(LinearShape(depth, columns, panels.dtype.value))


def _column_step(writer: Writer, product: Node) -> int:
    """One block wide when the left side is computed here, so that it is computed once."""
    left, columns = product.args[0], product.shape[-1]
    while left.op in {"permute", "reshape", "expand", "slice", "cast"}:
        if writer.is_memory(left):
            break
        left = left.args[0]
    if isinstance(columns, int) and not writer.is_memory(left):
        return columns
    return writer.options.product_columns


def _block(writer: Writer, size: Dim, step: int, name: str, scale: int) -> _Block:
    """Cut an axis of `size` units into blocks of `step`; a unit is `scale` elements."""
    indices = writer.indices
    if isinstance(size, int):
        step = min(step, max(1, size))
    number = writer.parameter()
    first = indices.multiply(number, step)
    start = indices.multiply(first, scale)
    if isinstance(size, int) and size % step == 0:
        return _Block(size // step, number, (), Span(start, step * scale))
    count, binds = writer.bound_rest(name, size, first, step)
    return _Block(ceil_divide(size, step), number, binds, Span(start, count * scale))
