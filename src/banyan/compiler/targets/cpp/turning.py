"""Stores of a block whose dims are turned: by shuffles of vector registers, not by element."""

from math import prod

from banyan.compiler.ir.attributes import integers
from banyan.compiler.ir.graph import Node
from banyan.compiler.targets.cpp.accesses import Access, access_of, pointer_strides
from banyan.compiler.targets.cpp.dialect import CPP
from banyan.compiler.targets.cpp.dots import Operand, loaded_operand
from banyan.compiler.targets.cpp.scope import Scope

UNITS = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t"}


def print_turned(scope: Scope, node: Node) -> list[str] | None:
    """The lines of a store of a permuted load; None where its elements are moved one by one."""
    value = node.args[1]
    if value.op != "permute" or value.args[0].op != "load" or value.args[0] in scope.values:
        return None
    load, order = value.args[0], integers(value, "order")
    source, target = access_of(load), access_of(node)
    exact = _covers_the_same(source, target, order)
    if scope.dialect is not CPP or not (exact or _fills_a_block(target, order)):
        return None
    steps = [_static(stride) for stride in _strides(source)]
    apart = [_static(stride) for stride in _strides(target)]
    unit, axes = load.dtype.num_bytes, list(range(len(order)))
    if order[-1] == axes[-1]:
        # The last dim stays last: its elements move together.
        unit *= _static(load.shape[-1])
        axes.pop()
    if len(axes) < 2 or 0 in steps + apart or unit not in UNITS:
        return None
    scaled = unit // load.dtype.num_bytes
    read, written = loaded_operand(scope, load), loaded_operand(scope, node)
    strides = {axis: (steps[axis] // scaled, apart[order.index(axis)] // scaled) for axis in axes}
    inner = min(axes, key=lambda axis: strides[axis][0])
    outer = min(axes, key=lambda axis: strides[axis][1])
    if inner == outer or (strides[inner][0], strides[outer][1]) != (1, 1):
        return None
    lines = _loops(UNITS[unit], (read, written), strides, (inner, outer))
    if exact or not any(read.is_clipped):
        return lines
    if read.condition is not None:
        return None
    num_bytes = prod(map(_static, node.args[1].shape)) * load.dtype.num_bytes
    short = [
        f"{size} < {_static(whole)}"
        for size, whole, clipped in zip(read.sizes, load.shape, read.is_clipped, strict=True)
        if clipped
    ]
    return [f"if ({' || '.join(short)}) memset({written.text}, 0, {num_bytes});", *lines]


def _loops(
    unit: str,
    operands: tuple[Operand, Operand],
    strides: dict[int, tuple[int, int]],
    turned: tuple[int, int],
) -> list[str]:
    read, written = operands
    inner, outer = turned
    lines, offsets = [], ["", ""]
    for axis, (step, apart) in strides.items():
        if axis not in turned:
            name = f"i{axis}"
            lines.append(f"for (index_t {name} = 0; {name} < {read.sizes[axis]}; ++{name}) {{")
            offsets = [f"{o} + {name} * {s}" for o, s in zip(offsets, (step, apart), strict=True)]
    lines.append(
        f"banyan::turn(reinterpret_cast<const {unit}*>({read.text}){offsets[0]}, "
        f"{strides[outer][0]}, reinterpret_cast<{unit}*>({written.text}){offsets[1]}, "
        f"{strides[inner][1]}, {read.sizes[outer]}, {read.sizes[inner]});"
    )
    guards = [c for c in (read.condition, written.condition) if c is not None]
    if guards:
        lines = [f"if ({' && '.join(guards)}) {{", *lines, "}"]
    return [*lines, *("}" for axis in strides if axis not in turned)]


def _strides(access: Access) -> list[object]:
    strides = pointer_strides(access.pointer.shape)
    return [strides[i] for i, kind in enumerate(access.kinds) if kind == "range"]


def _static(size: object) -> int:
    """A fixed number; 0 for a symbolic one."""
    return size if isinstance(size, int) else 0


def _covers_the_same(source: Access, target: Access, order: tuple[int, ...]) -> bool:
    """Is every element that is read inside the tensor written, and no other?"""
    kinds = {*source.kinds, *target.kinds}
    ranges = [[i for i, k in enumerate(a.kinds) if k == "range"] for a in (source, target)]
    if "gather" in kinds or len(ranges[0]) != len(order) or len(ranges[1]) != len(order):
        return False
    pairs = zip((ranges[0][axis] for axis in order), ranges[1], strict=True)
    return all(
        source.indices[i] is target.indices[j]
        and source.sizes[i] == target.sizes[j]
        and source.pointer.shape[i] == target.pointer.shape[j]
        for i, j in pairs
    )


def _fills_a_block(target: Access, order: tuple[int, ...]) -> bool:
    """Is all of a piece of memory written, so that what is not read can be zeros?"""
    rest = len(target.kinds) - len(order)
    shape = target.pointer.shape[rest:]
    whole = target.sizes[rest:] == shape and {*target.kinds[rest:]} == {"range"}
    return whole and all(isinstance(size, int) for size in shape)
