"""The value of one element of a tile, printed inside a loop nest.

Pointwise operations, loads, and everything that only moves elements (reshape, expand, slice,
concat, ...) are evaluated element by element where they are used: fusion is just recursion.
"""

from dataclasses import dataclass

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.symbols import Dim, Expression, upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.accesses import (
    Access,
    Position,
    access_of,
    check_text,
    is_inside,
    offset_of,
    scalar_index,
    scalar_text,
)
from banyan.compiler.targets.cpp.expressions import (
    computed_type,
    from_memory,
    literal,
    pointwise_text,
    to_memory,
)
from banyan.compiler.targets.cpp.indices import (
    UNBOUNDED,
    Index,
    Variable,
    add,
    ask_for_cut,
    constant_index,
    scale,
)
from banyan.compiler.targets.cpp.nest import Cell, Nest
from banyan.compiler.targets.cpp.reshaping import reshaped_indices
from banyan.compiler.targets.cpp.scope import Buffer, Scope
from banyan.foundation.errors import CompilationFailed

Indices = tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class Elements:
    """Prints elements of tiles into `nest`, using what `scope` holds."""

    scope: Scope
    nest: Nest

    def cell(self, node: Node, indices: Indices) -> Cell:
        """The computed value of `node` at `indices`."""
        held = self.scope.values.get(node)
        if isinstance(held, Buffer):
            return self._from_buffer(node, held, indices)
        if node.shape == ():
            return Cell(scalar_text(self.scope, node))
        known = self.nest.recall((node, indices))
        if known is not None:
            return known
        return self.element(node, indices)

    def element(self, node: Node, indices: Indices) -> Cell:
        """Evaluate an element of a node that is not held anywhere."""
        if node.op in POINTWISE:
            return self._pointwise(node, indices)
        if node.op == "load":
            return self._load(node, indices)
        return self._moved(node, indices)

    def _from_buffer(self, node: Node, buffer: Buffer, indices: Indices) -> Cell:
        known = self.nest.recall((node, indices))
        if known is not None:
            return known
        place = buffer_offset(buffer, indices)
        text = from_memory(f"{buffer.text}[{place}]", buffer.dtype)
        return self._keep(node, indices, text, place.level)

    def _keep(self, node: Node, indices: Indices, text: str, level: int) -> Cell:
        return self.nest.value((node, indices), computed_type(node.dtype), text, level)

    def _pointwise(self, node: Node, indices: Indices) -> Cell:
        cells = [self.cell(arg, indices) for arg in node.args]
        text = pointwise_text(node, [cell.text for cell in cells])
        if node.op == "cast" and text == cells[0].text:
            return cells[0]
        return self._keep(node, indices, text, max(cell.level for cell in cells))

    def _moved(self, node: Node, indices: Indices) -> Cell:
        source = node.args[0] if node.args else node
        if node.op == "expand":
            skipped = len(indices) - len(source.shape)
            kept = zip(indices[skipped:], source.shape, node.shape[skipped:], strict=True)
            moved = tuple(
                constant_index(0) if have == 1 and want != 1 else i for i, have, want in kept
            )
            return self.cell(source, moved)
        if node.op == "reshape":
            moved = reshaped_indices(self.scope, self.nest, node.shape, source.shape, indices)
            return self.cell(source, moved)
        if node.op == "permute":
            order = _integers(node.attr("order"))
            return self.cell(source, tuple(indices[order.index(i)] for i in range(len(order))))
        if node.op == "slice":
            axis = _axis(node)
            start, step = self.scope.dim_index(_dim(node, "start")), node.attr("step")
            shifted = add(scale(indices[axis], step if isinstance(step, int) else 1), start)
            return self.cell(source, _replaced(indices, axis, shifted))
        return self._chosen(node, indices)

    def _chosen(self, node: Node, indices: Indices) -> Cell:
        """Elements whose source depends on where they are."""
        if node.op == "iota":
            text = f"{computed_type(node.dtype)}({indices[0]})"
            return self._keep(node, indices, text, indices[0].level)
        if node.op == "concat":
            return self._concat(node, indices)
        if node.op == "pad":
            return self._pad(node, indices)
        if node.op == "gather":
            axis, rank = _axis(node), len(node.args[1].shape)
            picked = self.as_index(self.cell(node.args[1], indices[axis : axis + rank]))
            return self.cell(node.args[0], (*indices[:axis], picked, *indices[axis + rank :]))
        if node.op == "take_along":
            picked = self.as_index(self.cell(node.args[1], indices))
            return self.cell(node.args[0], _replaced(indices, _axis(node), picked))
        raise CompilationFailed(f"the C++ target cannot print {node.op!r} on a tile")

    def as_index(self, cell: Cell) -> Index:
        """A value of the graph as an index."""
        return Index(((Variable(f"int64_t({cell.text})", cell.level, -UNBOUNDED, UNBOUNDED), 1),))

    def _concat(self, node: Node, indices: Indices) -> Cell:
        axis = _axis(node)
        index, start = indices[axis], 0
        for part in node.args:
            size = part.shape[axis]
            if not isinstance(size, int):
                return self._select_part(node, indices)
            if index.minimum >= start and index.maximum < start + size:
                moved = add(index, constant_index(-start))
                return self.cell(part, _replaced(indices, axis, moved))
            start += size
            ask_for_cut(index, start)
        return self._select_part(node, indices)

    def _select_part(self, node: Node, indices: Indices) -> Cell:
        """Evaluate every part at an index kept inside it, and choose."""
        axis = _axis(node)
        start: Dim = 0
        cells, ends = [], []
        for part in node.args:
            size = part.shape[axis]
            inner = self._clamped(indices[axis], start, size)
            cells.append(self.cell(part, _replaced(indices, axis, inner)))
            start = start + size
            ends.append(self.scope.dim(start))
        text = cells[-1].text
        for cell, end in zip(reversed(cells[:-1]), reversed(ends[:-1]), strict=True):
            text = f"({indices[axis]} < {end} ? {cell.text} : {text})"
        level = max(indices[axis].level, *(cell.level for cell in cells))
        return self._keep(node, indices, text, level)

    def _clamped(self, index: Index, start: Dim, size: Dim) -> Index:
        shifted = f"{index} - {self.scope.dim(start)}"
        text = (
            f"maximum(index_t(0), minimum(index_t({shifted}), index_t({self.scope.dim(size)} - 1)))"
        )
        largest = max(upper_bound(size) - 1, 0)
        return Index(((Variable(text, index.level, 0, largest), 1),))

    def _pad(self, node: Node, indices: Indices) -> Cell:
        axis, source = _axis(node), node.args[0]
        low, size, value = _dim(node, "low"), source.shape[axis], node.attr("value")
        border = literal(value if isinstance(value, int | float) else 0, node.dtype)
        index = indices[axis]
        if isinstance(low, int) and isinstance(size, int):
            ask_for_cut(index, low)
            ask_for_cut(index, low + size)
            if index.maximum < low or index.minimum >= low + size:
                return Cell(border)
            if index.minimum >= low and index.maximum < low + size:
                moved = add(index, constant_index(-low))
                return self.cell(source, _replaced(indices, axis, moved))
        cell = self.cell(source, _replaced(indices, axis, self._clamped(index, low, size)))
        low_text, end_text = self.scope.dim(low), self.scope.dim(low + size)
        text = f"({index} >= {low_text} && {index} < {end_text}) ? {cell.text} : {border}"
        return self._keep(node, indices, text, max(index.level, cell.level))

    def _load(self, node: Node, indices: Indices) -> Cell:
        access = access_of(node)
        shape = access.pointer.shape
        positions = self.positions(access, indices)
        safe: list[Index] = []
        checks: list[Cell] = []
        for position, size in zip(positions, shape, strict=True):
            check = self.check(position, size)
            if check is None:
                safe.append(position.index)
                continue
            checks.append(check)
            guarded = f"({check.text} ? {position.index} : 0)"
            safe.append(Index(((Variable(guarded, position.index.level, 0, UNBOUNDED), 1),)))
        offset = offset_of(self.scope, shape, safe)
        pointer = self.scope.pointers[access.pointer]
        text = from_memory(f"{pointer}[{offset}]", node.dtype)
        level = max(offset.level, max((check.level for check in checks), default=0))
        if checks:
            condition = " && ".join(check.text for check in checks)
            text = f"{condition} ? {text} : {literal(0, node.dtype)}"
        return self._keep(node, indices, text, level)

    def positions(self, access: Access, indices: Indices) -> list[Position]:
        """Where the element of the tile at `indices` lies in the pointer."""
        gathered, ranges = indices[: access.gather_rank], iter(indices[access.gather_rank :])
        found = []
        for kind, index in zip(access.kinds, access.indices, strict=True):
            if kind == "gather":
                place = self.as_index(self.cell(index, gathered))
                found.append(Position(None, place, Index()))
                continue
            step = next(ranges) if kind == "range" else Index()
            found.append(Position(index, add(scalar_index(self.scope, index), step), step))
        return found

    def check(self, position: Position, size: Dim) -> Cell | None:
        """The condition that a position is inside a dim of `size`; None when that is proved."""
        start = "" if position.start is None else scalar_text(self.scope, position.start)
        low, high = is_inside(self.scope.facts, position, size, start)
        if low and high:
            return None
        text = check_text(position.index, self.scope.dim(size), low=low, high=high)
        known = self.nest.recall(text)
        return known or self.nest.value(text, "bool", text, position.index.level)


def stored_cell(elements: Elements, node: Node, indices: Indices, dtype: DType) -> str:
    """The text of an element of `node` as it is written to memory of type `dtype`."""
    is_rounding = node.op == "cast" and node.dtype is dtype and node.args[0].dtype.is_floating
    if is_rounding and node not in elements.scope.values:
        node = node.args[0]  # writing rounds anyway
    return to_memory(elements.cell(node, indices).text, dtype)


def buffer_offset(buffer: Buffer, indices: Indices) -> Index:
    """The element offset in a scratch buffer."""
    total = Index()
    for index, stride in zip(indices, buffer.strides, strict=True):
        total = add(total, scale(index, stride))
    return total


def _replaced(indices: Indices, axis: int, index: Index) -> Indices:
    return (*indices[:axis], index, *indices[axis + 1 :])


def _axis(node: Node) -> int:
    axis = node.attr("axis")
    return axis if isinstance(axis, int) else 0


def _dim(node: Node, name: str) -> Dim:
    value = node.attr(name)
    return value if isinstance(value, int | Expression) else 0


def _integers(value: object) -> tuple[int, ...]:
    return tuple(v for v in value if isinstance(v, int)) if isinstance(value, tuple) else ()
