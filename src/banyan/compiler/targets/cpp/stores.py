"""Stores of tiles: clipped loops where a range may pass the end, checks where indices are data.

A block whose dims are turned is moved by shuffles of vector registers, not by element.
"""

from math import prod

from banyan.compiler.ir.access import Access, access_of
from banyan.compiler.ir.attributes import integers
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, strides
from banyan.compiler.targets.cpp.dialect import CPP
from banyan.compiler.targets.cpp.dots import Operand, guarded, loaded_operand
from banyan.compiler.targets.cpp.elements import Elements, Indices, print_loops
from banyan.compiler.targets.cpp.indices import Limit
from banyan.compiler.targets.cpp.nest import Axis
from banyan.compiler.targets.cpp.scope import Scope

UNITS = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t"}


def print_store(scope: Scope, node: Node) -> None:
    """Print what writes a tile into a tensor."""
    if _print_turned(scope, node):
        return
    access, value = access_of(node), node.args[1]
    shape = access.pointer.shape
    axes = [Axis(size) for size in value.shape[: access.gather_rank]]
    for kind, start, size, dim in access.dims:
        if kind == "range":
            text, is_clipped = scope.clipped(start, size, dim)
            limit = Limit(scope.scalar(start), dim)
            axes.append(Axis(size, text if is_clipped else None, limit))

    def step(elements: Elements, indices: Indices) -> None:
        positions = elements.positions(access, indices)
        checks = [check.text for _, check in positions if check is not None]
        place = scope.number(shape, [index for index, _ in positions])
        text = elements.stored(value, indices, value.dtype)
        guard = f"if ({' && '.join(checks)}) " if checks else ""
        elements.nest.emit(f"{guard}{scope.pointers[access.pointer]}[{place}] = {text};")

    print_loops(scope, axes, step)


def _print_turned(scope: Scope, node: Node) -> bool:
    """Print a store of a permuted load; False where its elements are moved one by one."""
    value = node.args[1]
    if value.op != "permute" or value.args[0].op != "load" or value.args[0] in scope.values:
        return False
    load, order = value.args[0], integers(value, "order")
    source, target = access_of(load), access_of(node)
    is_exact = _covers_the_same(source, target, order)
    if scope.dialect is not CPP or not (is_exact or _fills_a_block(target, order)):
        return False
    steps, apart = _strides(source), _strides(target)
    unit, axes = load.dtype.num_bytes, list(range(len(order)))
    if order[-1] == axes[-1]:
        # The last dim stays last: its elements move together.
        unit *= _static(load.shape[-1])
        axes.pop()
    if len(axes) < 2 or 0 in steps + apart or unit not in UNITS:
        return False
    scaled = unit // load.dtype.num_bytes
    both = {axis: (steps[axis] // scaled, apart[order.index(axis)] // scaled) for axis in axes}
    inner = min(axes, key=lambda axis: both[axis][0])
    outer = min(axes, key=lambda axis: both[axis][1])
    if inner == outer or (both[inner][0], both[outer][1]) != (1, 1):
        return False
    read, written = loaded_operand(scope, load), loaded_operand(scope, node)
    if read.condition and not (is_exact and read.condition == written.condition):
        return False  # what lies outside is zero
    if read.is_clipped and not is_exact:
        num_bytes = prod(map(_static, value.shape)) * load.dtype.num_bytes
        pairs = zip(read.sizes, load.shape, strict=True)
        short = [f"{size} < {dim}" for size, dim in pairs if size != scope.dim(dim)]
        clear = f"if ({' || '.join(short)}) memset({written.text}, 0, {num_bytes});"
        scope.emit(f"{guarded(written)}{clear}")
    scope.lines += _loops(UNITS[unit], (read, written), both, (inner, outer))
    return True


def _loops(
    unit: str,
    operands: tuple[Operand, Operand],
    both: dict[int, tuple[int, int]],
    turned: tuple[int, int],
) -> list[str]:
    read, written = operands
    inner, outer = turned
    guard = guarded(read, written)
    lines, offsets = [f"{guard}{{"] if guard else [], ["", ""]
    for axis, pair in both.items():
        if axis not in turned:
            name = f"i{axis}"
            lines.append(f"for (index_t {name} = 0; {name} < {read.sizes[axis]}; ++{name}) {{")
            offsets = [f"{o} + {name} * {s}" for o, s in zip(offsets, pair, strict=True)]
    call = (
        f"banyan::turn(reinterpret_cast<const {unit}*>({read.text}){offsets[0]}, "
        f"{both[outer][0]}, reinterpret_cast<{unit}*>({written.text}){offsets[1]}, "
        f"{both[inner][1]}, {read.sizes[outer]}, {read.sizes[inner]});"
    )
    return [*lines, call, *["}"] * len(lines)]


def _strides(access: Access) -> list[int]:
    found = strides(access.pointer.shape)
    return [_static(found[i]) for i in access.ranges]


def _static(size: Dim) -> int:
    """A fixed number; 0 for a symbolic one."""
    return size if isinstance(size, int) else 0


def _covers_the_same(source: Access, target: Access, order: tuple[int, ...]) -> bool:
    """Is every element that is read inside the tensor written, and no other?"""
    kept = len(source.ranges) == len(target.ranges) == len(order)
    if source.gathered or target.gathered or not kept:
        return False
    pairs = zip((source.ranges[axis] for axis in order), target.ranges, strict=True)
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
