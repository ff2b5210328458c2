"""Stores of tiles: clipped loops where a range may pass the end, checks where indices are data."""

from banyan.compiler.ir.graph import Node
from banyan.compiler.targets.cpp.accesses import access_of, offset_of, scalar_text
from banyan.compiler.targets.cpp.dots import clipped_extent
from banyan.compiler.targets.cpp.elements import Elements, Indices, stored_cell
from banyan.compiler.targets.cpp.indices import Limit
from banyan.compiler.targets.cpp.nest import Axis, Nest, print_nest
from banyan.compiler.targets.cpp.scope import Scope
from banyan.compiler.targets.cpp.turning import print_turned


def print_store(scope: Scope, node: Node) -> list[str]:
    """The lines that write a tile into a tensor."""
    turned = print_turned(scope, node)
    if turned is not None:
        return turned
    access = access_of(node)
    shape = access.pointer.shape
    value = node.args[1]
    axes = [Axis(size) for size in value.shape[: access.gather_rank]]
    for kind, start, size, dim in zip(
        access.kinds, access.indices, access.sizes, shape, strict=True
    ):
        if kind == "range":
            text, is_clipped = clipped_extent(scope, start, size, dim)
            limit = Limit(scalar_text(scope, start), dim)
            axes.append(Axis(size, text if is_clipped else None, limit))

    def body(nest: Nest) -> None:
        def step(indices: Indices) -> None:
            elements = Elements(scope, nest)
            positions = elements.positions(access, indices)
            found = (elements.check(p, size) for p, size in zip(positions, shape, strict=True))
            checks = [check.text for check in found if check is not None]
            place = offset_of(scope, shape, [position.index for position in positions])
            text = stored_cell(elements, value, indices, value.dtype)
            target = f"{scope.pointers[access.pointer]}[{place}]"
            guard = f"if ({' && '.join(checks)}) " if checks else ""
            nest.emit(f"{guard}{target} = {text};")

        nest.loops(axes, step, vector="", independent=len(axes))

    return print_nest(body, scope.symbols, scope.dialect)
