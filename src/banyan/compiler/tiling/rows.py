"""Row kernels: one program for each row of a result, the last axis whole or in pieces."""

from dataclasses import dataclass
from itertools import pairwise

from banyan.compiler.ir.graph import Kernel, Node, Region
from banyan.compiler.ir.groups import group_of
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.symbols import Dim, ceil_divide, upper_bound
from banyan.compiler.tiling.windows import At, CannotPull, MustCut, Span, Window
from banyan.compiler.tiling.writer import Writer


@dataclass(frozen=True, slots=True)
class _Row:
    """The grid, its parameters, effects that come first, and the window of one program."""

    grid: tuple[Dim, ...]
    parameters: tuple[Node, ...]
    binds: tuple[Node, ...]
    window: Window


def row_kernel(writer: Writer, roots: tuple[Node, ...]) -> Kernel:
    """The kernel that computes `roots`, one row of their last axes at a time.

    Several roots differ in the last axis only.

    Raises:
        CannotPull: a node behind a root must lie in memory.
    """
    first = roots[0]
    row = _whole_row(writer, first, scalars=len(roots) == 1)
    if _may_be_cut(writer, roots, row):
        row = _pieces(writer, first, row) or row
    together = _beside(writer, roots, row)
    if together is not None:
        try:
            return _kernel(writer, roots, together)
        except CannotPull:
            pass  # Something inside is computed for one row only.
    return _kernel(writer, roots, row)


def _kernel(writer: Writer, roots: tuple[Node, ...], row: _Row) -> Kernel:
    first = roots[0]
    targets = [
        writer.builder.pointer("out" if root is first else f"out{i}", root.tensor, "write")
        for i, root in enumerate(roots)
    ]
    stores: list[Node] = []
    for root, target in zip(roots, targets, strict=True):
        window = row.window
        if root is not first:
            last = Span(writer.indices.number(0), root.shape[-1], divisible=True)
            window = (*row.window[:-1], last)
        stores += _stores(writer, root, target, window)
    body = Region(row.parameters, (*row.binds, *stores), ())
    pointers = (*writer.leaves.values(), *targets)
    return Kernel(_name(writer, roots), row.grid, pointers, body)


def _beside(writer: Writer, roots: tuple[Node, ...], row: _Row) -> _Row | None:
    """The row together with as many neighbours along the axis before as fit into one tile."""
    limit, heads = writer.options.tile_elements, [e for e in row.window if isinstance(e, At)]
    if limit is None or not heads:
        return None
    axis, last = len(heads) - 1, row.window[-1]
    wide = upper_bound(last.size) if isinstance(last, Span) else _reduced_length(writer, roots[0])
    dim = roots[0].shape[axis]
    count = min(limit // _power_of_two(wide), _power_of_two(upper_bound(dim)))
    if count < 2:
        return None
    number = writer.parameter()
    start = writer.indices.multiply(number, count)
    size, binds = writer.rest(dim, start, count)
    window = (*row.window[:axis], Span(start, size), *row.window[axis + 1 :])
    parameters = (*row.parameters[:axis], number, *row.parameters[axis + 1 :])
    grid = (*row.grid[:axis], ceil_divide(dim, count), *row.grid[axis + 1 :])
    return _Row(grid, parameters, (*binds, *row.binds), window)


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


def _reduced_length(writer: Writer, root: Node) -> int:
    reductions = [node for node in _group(writer, (root,)) if node.op == "reduce"]
    return max((upper_bound(node.args[0].shape[-1]) for node in reductions), default=1)


def _may_be_cut(writer: Writer, roots: tuple[Node, ...], row: _Row) -> bool:
    one_row = len(roots) == 1 and bool(row.window) and isinstance(row.window[-1], Span)
    return one_row and not _needs_whole_row(writer, roots[0])


def _stores(writer: Writer, root: Node, target: Node, whole: Window) -> list[Node]:
    """Compute and store a row, in parts where a concatenation asks for it."""
    stores: list[Node] = []
    pending = [whole]
    while pending:
        window = pending.pop(0)
        if _is_long(writer, root, window):
            stores += _store_in_pieces(writer, root, target, window)
            continue
        try:
            value = writer.tile(root, window)
        except MustCut as cut:
            pending = _cut(writer, window, cut.offsets) + pending
        else:
            stores.append(writer.store(target, value, window))
    return stores


def _is_long(writer: Writer, root: Node, window: Window) -> bool:
    longest = writer.options.longest_tile
    if longest is None or not window or not isinstance(window[-1], Span):
        return False
    running = any(node.op == "cumsum" for node in _group(writer, (root,)))
    return upper_bound(window[-1].size) > longest and not running


def _store_in_pieces(writer: Writer, root: Node, target: Node, window: Window) -> tuple[Node, ...]:
    """A loop that computes and stores a row too long for one tile."""
    row = window[-1]
    if not isinstance(row, Span):
        raise TypeError("only a span has pieces")

    def body(span: Span) -> list[Node]:
        start = writer.indices.add(row.start, span.start)
        part = (*window[:-1], Span(start, span.size))
        return [writer.store(target, writer.tile(root, part), part)]

    effects, _ = writer.pieces(row.size, writer.options.longest_tile, [], body)
    return effects


def _whole_row(writer: Writer, root: Node, *, scalars: bool) -> _Row:
    leading = root.shape[:-1]
    parameters = tuple(writer.parameter() for _ in leading) or (writer.parameter(),)
    heads = tuple(At(parameter) for parameter in parameters[: len(leading)])
    if root.tensor.rank == 0:
        return _Row((1,), parameters, (), ())
    if scalars and _is_one_reduction(writer, root):
        parameters = tuple(writer.parameter() for _ in root.shape)
        return _Row(root.shape, parameters, (), tuple(At(p) for p in parameters))
    last = Span(writer.indices.number(0), root.shape[-1], divisible=True)
    return _Row(leading or (1,), parameters, (), (*heads, last))


def _is_one_reduction(writer: Writer, root: Node) -> bool:
    """Is each element made from a whole last axis of something, by pointwise operations?"""
    pending = [root]
    while pending:
        node = pending.pop()
        if writer.is_memory(node):
            continue
        if node.op == "reduce":
            axes = node.attr("axes")
            return isinstance(axes, tuple) and node.args[0].tensor.rank - 1 in axes
        if node.op in POINTWISE:
            pending.extend(node.args)
    return False


def _pieces(writer: Writer, root: Node, row: _Row) -> _Row | None:
    """Cut rows that are long, or as long as a symbol says, into pieces for several programs."""
    width, piece = root.shape[-1], writer.options.row_piece
    if isinstance(width, int) and width <= writer.options.widest_row:
        return None
    number = writer.parameter()
    start = writer.indices.multiply(number, piece)
    size, binds = writer.bound_rest("piece_columns", width, start, piece)
    span = Span(start, size, divisible=True)
    heads = row.window[:-1]
    parameters = (*row.parameters[: len(heads)], number)
    grid = (*root.shape[:-1], ceil_divide(width, piece))
    return _Row(grid, parameters, binds, (*heads, span))


def _cut(writer: Writer, window: Window, offsets: tuple[int, ...]) -> list[Window]:
    last = window[-1]
    if not isinstance(last, Span) or not isinstance(last.size, int):
        raise TypeError("only a span of known size can be cut")
    borders = [0, *offsets, last.size]
    return [
        (
            *window[:-1],
            Span(writer.indices.add(last.start, writer.indices.number(low)), high - low, True),
        )
        for low, high in pairwise(borders)
    ]


def _group(writer: Writer, roots: tuple[Node, ...]) -> list[Node]:
    return group_of(roots, writer.is_memory)[0]


def _needs_whole_row(writer: Writer, root: Node) -> bool:
    return any(
        node.op in {"reduce", "cumsum", "dot", "quantize_rows"} for node in _group(writer, (root,))
    )


def _name(writer: Writer, roots: tuple[Node, ...]) -> str:
    """A short name from what the group does, for reports and generated text."""
    ops = {node.op for node in _group(writer, roots)}
    notable = (
        "quantize_rows",
        "reduce",
        "cumsum",
        "gather",
        "take_along",
        "concat",
        "exp",
        "cos",
        "sin",
    )
    parts = [op for op in notable if op in ops]
    return "_".join(["row", *parts[:3]] if parts else ["row", roots[0].op])
