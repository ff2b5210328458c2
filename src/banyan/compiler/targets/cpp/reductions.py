"""Reductions and running sums, into scratch buffers or scalars."""

from collections.abc import Sequence

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.accesses import times
from banyan.compiler.targets.cpp.elements import Elements, Indices, buffer_offset
from banyan.compiler.targets.cpp.expressions import STORED, computed_type, literal, to_memory
from banyan.compiler.targets.cpp.indices import Index, add
from banyan.compiler.targets.cpp.nest import Axis, Nest, print_nest
from banyan.compiler.targets.cpp.scope import Buffer, Scalar, Scope
from banyan.foundation.errors import CompilationFailed

_UINT8 = {"max": "uint8_t(0)", "min": "uint8_t(255)"}
_VECTOR = {"sum": "+", "prod": "*", "max": "max", "min": "min"}


def reduce_into_buffer(scope: Scope, node: Node, target: Buffer) -> None:
    """Print a reduction whose result is a tile."""
    source, axes = node.args[0], reduced_axes(node)
    kept = tuple(a for a in range(len(source.shape)) if a not in axes)
    sizes = [Axis(source.shape[a]) for a in kept]
    if kept and kept[-1] > axes[-1] and node.attr("kind") != "argmax":
        _reduce_columns(scope, node, target, sizes)
        return

    def body(nest: Nest) -> None:
        def row(outer: Indices) -> None:
            name = reduce_element(scope, nest, node, dict(zip(kept, outer, strict=True)))
            place = buffer_offset(target, outer)
            nest.emit(f"{target.text}[{place}] = {to_memory(name, target.dtype)};")

        nest.loops(sizes, row, label="k", independent=len(sizes))

    scope.lines += print_nest(body, scope.symbols, scope.dialect)


def reduce_into_scalar(scope: Scope, node: Node) -> Scalar:
    """Print a reduction of all axes."""
    result = scope.name("s")
    scope.emit(f"{computed_type(node.dtype)} {result};")

    def body(nest: Nest) -> None:
        total = reduce_element(scope, nest, node, {})
        nest.emit(f"{result} = {total};")

    scope.lines += print_nest(body, scope.symbols, scope.dialect)
    return Scalar(result)


def reduce_element(scope: Scope, nest: Nest, node: Node, outer: dict[int, Index]) -> str:
    """Print the loops that reduce to one element; `outer` gives the axes that stay."""
    source, axes, kind = node.args[0], reduced_axes(node), str(node.attr("kind"))
    sizes = [Axis(source.shape[a]) for a in axes]
    if kind == "argmax":
        return _argmax(scope, nest, node, outer)
    total = nest.name("a")
    nest.emit(f"{computed_type(node.dtype)} {total} = {start_value(kind, node.dtype)};")

    def step(inner: Indices) -> None:
        found = {**outer, **dict(zip(axes, inner, strict=True))}
        cell = Elements(scope, nest).cell(source, tuple(found[a] for a in sorted(found)))
        nest.emit(f"{total} = {combine(kind, node.dtype, total, cell.text)};")

    vector = None if node.dtype is DType.BOOL else f"reduction({_VECTOR[kind]}:{total})"
    if outer:
        nest.loops(sizes, step, label="r", vector=vector)
        return total
    nest.loops(sizes, step, label="r", vector=vector, independent=len(sizes))
    for line in scope.dialect.joined(total, kind, node.dtype):
        nest.emit(line)
    return total


def _argmax(scope: Scope, nest: Nest, node: Node, outer: dict[int, Index]) -> str:
    source, axes = node.args[0], reduced_axes(node)
    best, at = nest.name("a"), nest.name("a")
    nest.emit(f"{computed_type(source.dtype)} {best} = {start_value('max', source.dtype)};")
    nest.emit(f"index_t {at} = 0;")

    def step(inner: Indices) -> None:
        found = {**outer, **dict(zip(axes, inner, strict=True))}
        cell = Elements(scope, nest).cell(source, tuple(found[a] for a in sorted(found)))
        number = _row_number(scope, tuple(source.shape[a] for a in axes), inner)
        nest.emit(f"if ({cell.text} > {best}) {{ {best} = {cell.text}; {at} = {number}; }}")

    nest.loops([Axis(source.shape[a]) for a in axes], step, label="r")
    return at


def _row_number(scope: Scope, sizes: Sequence[Dim], indices: Indices) -> Index:
    """The number of an element in row-major order."""
    number = Index()
    stride: Dim = 1
    for size, index in zip(reversed(sizes), reversed(indices), strict=True):
        number = add(number, times(scope, index, stride))
        stride = stride * size
    return number


def _reduce_columns(scope: Scope, node: Node, target: Buffer, sizes: Sequence[Axis]) -> None:
    """The last axis stays: add whole rows, so that the innermost loop runs along it."""
    source, axes, kind = node.args[0], reduced_axes(node), str(node.attr("kind"))
    kept = [a for a in range(len(source.shape)) if a not in axes]

    def clear(nest: Nest) -> None:
        value = to_memory(start_value(kind, node.dtype), target.dtype)

        def step(indices: Indices) -> None:
            nest.emit(f"{_at(target, indices)} = {value};")

        nest.loops(sizes, step, vector="", independent=len(sizes))

    def accumulate(nest: Nest) -> None:
        def step(indices: Indices) -> None:
            found = dict(zip((*axes, *kept), indices, strict=True))
            cell = Elements(scope, nest).cell(source, tuple(found[a] for a in sorted(found)))
            place = _at(target, indices[len(axes) :])
            nest.emit(f"{place} = {combine(kind, node.dtype, place, cell.text)};")

        loops = [*(Axis(source.shape[a]) for a in axes), *sizes]
        nest.loops(loops, step, vector="", independent=len(sizes))

    scope.lines += print_nest(clear, scope.symbols, scope.dialect)
    scope.lines += print_nest(accumulate, scope.symbols, scope.dialect)


def running_sum(scope: Scope, node: Node, target: Buffer) -> None:
    """Print a cumulative sum along one axis."""
    source, axis = node.args[0], node.attr("axis")
    if not isinstance(axis, int):
        raise CompilationFailed("cumsum needs an axis")
    others = [a for a in range(len(source.shape)) if a != axis]
    length = source.shape[axis]

    def body(nest: Nest) -> None:
        def line(outer: Indices) -> None:
            total = nest.name("a")
            nest.emit(f"{computed_type(node.dtype)} {total} = 0;")

            def step(inner: Indices) -> None:
                found = dict(zip((*others, axis), (*outer, *inner), strict=True))
                indices = tuple(found[a] for a in range(len(source.shape)))
                cell = Elements(scope, nest).cell(source, indices)
                nest.emit(f"{total} += {cell.text};")
                nest.emit(f"{_at(target, indices)} = {to_memory(total, target.dtype)};")

            nest.loops([Axis(length)], step, label="c")

        rows = [Axis(source.shape[a]) for a in others]
        nest.loops(rows, line, label="k", independent=len(rows))

    scope.lines += print_nest(body, scope.symbols, scope.dialect)


def reduced_axes(node: Node) -> tuple[int, ...]:
    """The axes a reduction removes, in order."""
    axes = node.attr("axes")
    return tuple(sorted(a for a in axes if isinstance(a, int))) if isinstance(axes, tuple) else ()


def start_value(kind: str, dtype: DType) -> str:
    """What a reduction of nothing gives."""
    if kind == "sum":
        return f"{computed_type(dtype)}(0)"
    if kind == "prod":
        return f"{computed_type(dtype)}(1)"
    if dtype.is_floating:
        return f"{'-' if kind == 'max' else ''}INFINITY"
    if dtype in (DType.BOOL, DType.UINT8):
        return literal(kind == "min", DType.BOOL) if dtype is DType.BOOL else _UINT8[kind]
    return f"{STORED[dtype].removesuffix('_t').upper()}_{'MIN' if kind == 'max' else 'MAX'}"


def combine(kind: str, dtype: DType, left: str, right: str) -> str:
    """One step of a reduction."""
    if dtype is DType.BOOL:
        return f"{left} {'&' if kind in ('min', 'prod') else '|'} {right}"
    if kind in ("max", "min"):
        return f"{right} {'>' if kind == 'max' else '<'} {left} ? {right} : {left}"
    text = f"{left} {'+' if kind == 'sum' else '*'} {right}"
    return text if dtype.is_floating or dtype is DType.INT64 else f"{computed_type(dtype)}({text})"


def _at(buffer: Buffer, indices: Indices) -> str:
    return f"{buffer.text}[{buffer_offset(buffer, indices)}]"
