"""The value of one element of a tile, printed inside a loop nest.

Pointwise operations, loads, and everything that only moves elements (reshape, expand, slice,
concat, ...) are evaluated element by element where they are used: fusion is just recursion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from banyan.compiler.ir.access import Access, access_of
from banyan.compiler.ir.attributes import integer, integers, number, size
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.symbols import Dim, upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.expressions import (
    computed_type,
    from_memory,
    literal,
    pointwise_text,
    to_memory,
)
from banyan.compiler.targets.cpp.indices import Index, variable_index
from banyan.compiler.targets.cpp.nest import Axis, Cell, Nest, print_nest
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
        if not isinstance(held, Buffer) and node.shape == ():
            return Cell(self.scope.scalar(node))
        known = self.nest.recall((node, indices))
        if known is not None:
            return known
        if isinstance(held, Buffer):
            place = held.offset(indices)
            text = from_memory(f"{held.text}[{place}]", held.dtype)
            return self._keep(node, indices, text, place.level)
        return self.element(node, indices)

    def element(self, node: Node, indices: Indices) -> Cell:
        """Evaluate an element of a node that is not held anywhere."""
        if node.op in POINTWISE:
            return self._pointwise(node, indices)
        if node.op == "load":
            return self._load(node, indices)
        return self._moved(node, indices)

    def stored(self, node: Node, indices: Indices, dtype: DType) -> str:
        """The text of an element of `node` as it is written to memory of type `dtype`."""
        is_rounding = node.op == "cast" and node.dtype is dtype and node.args[0].dtype.is_floating
        if is_rounding and node not in self.scope.values:
            node = node.args[0]  # writing rounds anyway
        return to_memory(self.cell(node, indices).text, dtype)

    def as_index(self, cell: Cell) -> Index:
        """A value of the graph as an index."""
        return variable_index(f"int64_t({cell.text})", cell.level)

    def positions(self, access: Access, indices: Indices) -> list[tuple[Index, Cell | None]]:
        """For each dim of the pointer where the element lies, and what to check before."""
        rank, ranges = access.gather_rank, iter(indices[access.gather_rank :])
        found: list[tuple[Index, str | None]] = []
        for kind, start, _, dim in access.dims:
            if kind == "gather":
                index = self.as_index(self.cell(start, indices[:rank]))
                found.append((index, self.scope.condition(index, dim)))
            else:
                step = next(ranges) if kind == "range" else Index()
                found.append((self.scope.index(start) + step, self.scope.checked(start, step, dim)))
        return [(index, self._check(text, index.level)) for index, text in found]

    def _check(self, text: str | None, level: int) -> Cell | None:
        if text is None:
            return None
        return self.nest.recall(text) or self.nest.value(text, "bool", text, level)

    def _keep(self, node: Node, indices: Indices, text: str, level: int) -> Cell:
        return self.nest.value((node, indices), computed_type(node.dtype), text, level)

    def _pointwise(self, node: Node, indices: Indices) -> Cell:
        cells = [self.cell(arg, indices) for arg in node.args]
        text = pointwise_text(node, [cell.text for cell in cells])
        if node.op == "cast" and text == cells[0].text:
            return cells[0]
        return self._keep(node, indices, text, max(cell.level for cell in cells))

    def _load(self, node: Node, indices: Indices) -> Cell:
        access = access_of(node)
        safe: list[Index] = []
        checks: list[Cell] = []
        for index, check in self.positions(access, indices):
            if check is None:
                safe.append(index)
            else:
                checks.append(check)
                guarded = f"({check.text} ? {index} : 0)"
                safe.append(variable_index(guarded, index.level, 0))
        offset = self.scope.number(access.pointer.shape, safe)
        text = from_memory(f"{self.scope.pointers[access.pointer]}[{offset}]", node.dtype)
        if checks:
            condition = " && ".join(check.text for check in checks)
            text = f"{condition} ? {text} : {literal(0, node.dtype)}"
        level = max([offset.level, *(check.level for check in checks)])
        return self._keep(node, indices, text, level)

    def _moved(self, node: Node, indices: Indices) -> Cell:
        source = node.args[0] if node.args else node
        if node.op == "expand":
            skipped = len(indices) - len(source.shape)
            kept = zip(indices[skipped:], source.shape, node.shape[skipped:], strict=True)
            moved = tuple(Index() if have == 1 and want != 1 else i for i, have, want in kept)
            return self.cell(source, moved)
        if node.op == "reshape":
            moved = reshaped_indices(self.scope, self.nest, node.shape, source.shape, indices)
            return self.cell(source, moved)
        if node.op == "permute":
            order = integers(node, "order")
            return self.cell(source, tuple(indices[order.index(i)] for i in range(len(order))))
        if node.op == "iota":
            text = f"{computed_type(node.dtype)}({indices[0]})"
            return self._keep(node, indices, text, indices[0].level)
        return self._along(node, indices)

    def _along(self, node: Node, indices: Indices) -> Cell:
        """An element of what moves elements along one axis."""
        if node.op not in {"slice", "gather", "take_along", "concat", "pad"}:
            raise CompilationFailed(f"the C++ target cannot print {node.op!r} on a tile")
        source, axis = node.args[0], integer(node, "axis")
        if node.op == "slice":
            start = self.scope.dim_index(size(node, "start"))
            shifted = indices[axis] * integer(node, "step") + start
            return self.cell(source, _replaced(indices, axis, shifted))
        if node.op == "gather":
            after = axis + len(node.args[1].shape)
            picked = self.as_index(self.cell(node.args[1], indices[axis:after]))
            return self.cell(source, (*indices[:axis], picked, *indices[after:]))
        if node.op == "take_along":
            picked = self.as_index(self.cell(node.args[1], indices))
            return self.cell(source, _replaced(indices, axis, picked))
        return (self._concat if node.op == "concat" else self._pad)(node, indices, axis)

    def _concat(self, node: Node, indices: Indices, axis: int) -> Cell:
        index, start = indices[axis], 0
        for part in node.args:
            length = part.shape[axis]
            if not isinstance(length, int):
                break
            if index.minimum >= start and index.maximum < start + length:
                return self.cell(part, _replaced(indices, axis, index + -start))
            start += length
            index.ask_for_cut(start)
        return self._select_part(node, indices, axis)

    def _select_part(self, node: Node, indices: Indices, axis: int) -> Cell:
        """Evaluate every part at an index kept inside it, and choose."""
        start: Dim = 0
        cells, ends = [], []
        for part in node.args:
            inner = self._clamped(indices[axis], start, part.shape[axis])
            cells.append(self.cell(part, _replaced(indices, axis, inner)))
            start = start + part.shape[axis]
            ends.append(self.scope.dim(start))
        text = cells[-1].text
        for cell, end in zip(reversed(cells[:-1]), reversed(ends[:-1]), strict=True):
            text = f"({indices[axis]} < {end} ? {cell.text} : {text})"
        level = max(indices[axis].level, *(cell.level for cell in cells))
        return self._keep(node, indices, text, level)

    def _clamped(self, index: Index, start: Dim, length: Dim) -> Index:
        dim = self.scope.dim
        inner = f"minimum(index_t({index} - {dim(start)}), index_t({dim(length)} - 1))"
        largest = max(upper_bound(length) - 1, 0)
        return variable_index(f"maximum(index_t(0), {inner})", index.level, 0, largest)

    def _pad(self, node: Node, indices: Indices, axis: int) -> Cell:
        (source,), index = node.args, indices[axis]
        low, length = size(node, "low"), source.shape[axis]
        border = literal(number(node, "value"), node.dtype)
        if isinstance(low, int) and isinstance(length, int):
            index.ask_for_cut(low)
            index.ask_for_cut(low + length)
            if index.maximum < low or index.minimum >= low + length:
                return Cell(border)
            if index.minimum >= low and index.maximum < low + length:
                return self.cell(source, _replaced(indices, axis, index + -low))
        cell = self.cell(source, _replaced(indices, axis, self._clamped(index, low, length)))
        inside = f"{index} >= {self.scope.dim(low)} && {index} < {self.scope.dim(low + length)}"
        text = f"({inside}) ? {cell.text} : {border}"
        return self._keep(node, indices, text, max(index.level, cell.level))


def _replaced(indices: Indices, axis: int, index: Index) -> Indices:
    return (*indices[:axis], index, *indices[axis + 1 :])


def print_elements(scope: Scope, body: Callable[[Elements], None]) -> None:
    """Print a nest of the loops and statements that `body` asks for."""
    print_nest(scope, lambda nest: body(Elements(scope, nest)))


def print_loops(
    scope: Scope, axes: Sequence[Axis | Dim], step: Callable[[Elements, Indices], None]
) -> None:
    """Print a nest of loops whose steps may run in any order around what `step` prints."""
    loops = [axis if isinstance(axis, Axis) else Axis(axis) for axis in axes]

    def body(elements: Elements) -> None:
        def inside(indices: Indices) -> None:
            step(elements, indices)

        elements.nest.loops(loops, inside, vector="", independent=len(loops))

    print_elements(scope, body)


def print_tile(scope: Scope, node: Node, target: Buffer) -> None:
    """Print the loops that evaluate a tile into a buffer."""

    def step(elements: Elements, indices: Indices) -> None:
        text = elements.stored(node, indices, target.dtype)
        elements.nest.emit(f"{target.at(indices)} = {text};")

    print_loops(scope, node.shape, step)
