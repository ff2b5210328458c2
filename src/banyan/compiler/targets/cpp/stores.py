"""Stores of tiles: clipped loops where a range may pass the end, checks where indices are data."""

from banyan.compiler.ir.access import access_of
from banyan.compiler.ir.graph import Node
from banyan.compiler.targets.cpp.elements import Elements, Indices, print_loops
from banyan.compiler.targets.cpp.indices import Limit
from banyan.compiler.targets.cpp.nest import Axis
from banyan.compiler.targets.cpp.scope import Scope
from banyan.compiler.targets.cpp.turning import print_turned


def print_store(scope: Scope, node: Node) -> None:
    """Print what writes a tile into a tensor."""
    if print_turned(scope, node):
        return
    access, value = access_of(node), node.args[1]
    shape = access.pointer.shape
    axes = [Axis(size) for size in value.shape[: access.gather_rank]]
    for i in access.ranges:
        start, size = access.indices[i], access.sizes[i]
        text, is_clipped = scope.clipped(start, size, shape[i])
        axes.append(Axis(size, text if is_clipped else None, Limit(scope.scalar(start), shape[i])))

    def step(elements: Elements, indices: Indices) -> None:
        positions = elements.positions(access, indices)
        checks = [check.text for _, check in positions if check is not None]
        place = scope.number(shape, [index for index, _ in positions])
        text = elements.stored(value, indices, value.dtype)
        guard = f"if ({' && '.join(checks)}) " if checks else ""
        elements.nest.emit(f"{guard}{scope.pointers[access.pointer]}[{place}] = {text};")

    print_loops(scope, axes, step)
