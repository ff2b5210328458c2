"""Reductions and running sums, into scratch buffers or scalars."""

from collections.abc import Mapping, Sequence

from banyan.compiler.ir.attributes import integer, integers
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.elements import Elements, Indices, print_elements, print_loops
from banyan.compiler.targets.cpp.expressions import STORED, computed_type, literal, to_memory
from banyan.compiler.targets.cpp.indices import Index
from banyan.compiler.targets.cpp.nest import Axis
from banyan.compiler.targets.cpp.scope import Buffer, Scalar, Scope

_UINT8 = {"max": "uint8_t(0)", "min": "uint8_t(255)"}
_VECTOR = {"sum": "+", "prod": "*", "max": "max", "min": "min"}


def reduce_into_buffer(scope: Scope, node: Node, target: Buffer) -> None:
    """Print a reduction whose result is a tile."""
    source, axes, kind = node.args[0], reduced_axes(node), str(node.attr("kind"))
    kept = tuple(a for a in range(len(source.shape)) if a not in axes)
    if kept and kept[-1] > axes[-1] and kind != "argmax":
        _reduce_columns(scope, node, target, kept)
        return
    sizes = [Axis(source.shape[a]) for a in kept]

    def body(elements: Elements) -> None:
        def row(outer: Indices) -> None:
            name = _reduce(elements, node, dict(zip(kept, outer, strict=True)))
            elements.nest.emit(f"{target.at(outer)} = {to_memory(name, target.dtype)};")

        elements.nest.loops(sizes, row, label="k", independent=len(sizes))

    print_elements(scope, body)


def reduce_into_scalar(scope: Scope, node: Node) -> Scalar:
    """Print a reduction of all axes."""
    result = scope.name("s")
    scope.emit(f"{computed_type(node.dtype)} {result};")
    print_elements(scope, lambda e: e.nest.emit(f"{result} = {_reduce(e, node, {})};"))
    return Scalar(result)


def _reduce(elements: Elements, node: Node, outer: Mapping[int, Index]) -> str:
    """Print the loops that reduce to one element; `outer` gives the axes that stay."""
    (source,), kind, nest = node.args, str(node.attr("kind")), elements.nest
    shape = tuple(source.shape[a] for a in reduced_axes(node))
    is_argmax = kind == "argmax"
    first = start_value("max", source.dtype) if is_argmax else start_value(kind, node.dtype)
    total, at = nest.name("a"), nest.name("a") if is_argmax else ""
    nest.emit(f"{computed_type(source.dtype if is_argmax else node.dtype)} {total} = {first};")
    if is_argmax:
        nest.emit(f"index_t {at} = 0;")

    def step(inner: Indices) -> None:
        found = {**outer, **dict(zip(reduced_axes(node), inner, strict=True))}
        text = elements.cell(source, _in_order(found)).text
        if is_argmax:
            number = elements.scope.number(shape, inner)
            nest.emit(f"if ({text} > {total}) {{ {total} = {text}; {at} = {number}; }}")
        else:
            nest.emit(f"{total} = {combine(kind, node.dtype, total, text)};")

    sizes = [Axis(size) for size in shape]
    if is_argmax:
        nest.loops(sizes, step, label="r")
        return at
    vector = None if node.dtype is DType.BOOL else f"reduction({_VECTOR[kind]}:{total})"
    nest.loops(sizes, step, label="r", vector=vector, independent=0 if outer else len(sizes))
    for line in () if outer else elements.scope.dialect.joined(total, kind, node.dtype):
        nest.emit(line)
    return total


def _in_order(found: Mapping[int, Index]) -> Indices:
    return tuple(found[axis] for axis in sorted(found))


def _reduce_columns(scope: Scope, node: Node, target: Buffer, kept: Sequence[int]) -> None:
    """The last axis stays: add whole rows, so that the innermost loop runs along it."""
    source, axes, kind = node.args[0], reduced_axes(node), str(node.attr("kind"))
    sizes = [Axis(source.shape[a]) for a in kept]
    value = to_memory(start_value(kind, node.dtype), target.dtype)

    def clear(elements: Elements, indices: Indices) -> None:
        elements.nest.emit(f"{target.at(indices)} = {value};")

    print_loops(scope, sizes, clear)

    def accumulate(elements: Elements) -> None:
        def step(indices: Indices) -> None:
            found = _in_order(dict(zip((*axes, *kept), indices, strict=True)))
            cell, place = elements.cell(source, found), target.at(indices[len(axes) :])
            elements.nest.emit(f"{place} = {combine(kind, node.dtype, place, cell.text)};")

        loops = [*(Axis(source.shape[a]) for a in axes), *sizes]
        elements.nest.loops(loops, step, vector="", independent=len(sizes))

    print_elements(scope, accumulate)


def running_sum(scope: Scope, node: Node, target: Buffer) -> None:
    """Print a cumulative sum along one axis."""
    (source,), axis = node.args, integer(node, "axis")
    others = [a for a in range(len(source.shape)) if a != axis]

    def body(elements: Elements) -> None:
        nest = elements.nest

        def line(outer: Indices) -> None:
            total = nest.name("a")
            nest.emit(f"{computed_type(node.dtype)} {total} = 0;")

            def step(inner: Indices) -> None:
                found = dict(zip((*others, axis), (*outer, *inner), strict=True))
                cell = elements.cell(source, _in_order(found))
                nest.emit(f"{total} += {cell.text};")
                nest.emit(f"{target.at(_in_order(found))} = {to_memory(total, target.dtype)};")

            nest.loops([Axis(source.shape[axis])], step, label="c")

        rows = [Axis(source.shape[a]) for a in others]
        nest.loops(rows, line, label="k", independent=len(rows))

    print_elements(scope, body)


def reduced_axes(node: Node) -> tuple[int, ...]:
    """The axes a reduction removes, in order."""
    return tuple(sorted(integers(node, "axes")))


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
