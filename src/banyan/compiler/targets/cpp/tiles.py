"""Whole tiles into scratch buffers."""

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.targets.cpp.elements import (
    Elements,
    Indices,
    buffer_offset,
    stored_cell,
)
from banyan.compiler.targets.cpp.nest import Axis, Nest, print_nest
from banyan.compiler.targets.cpp.scope import Buffer, Scope


def print_tile(scope: Scope, node: Node, target: Buffer) -> None:
    """Print the loops that evaluate a tile into a buffer."""

    def body(nest: Nest) -> None:
        def step(indices: Indices) -> None:
            text = stored_cell(Elements(scope, nest), node, indices, target.dtype)
            nest.emit(f"{target.text}[{buffer_offset(target, indices)}] = {text};")

        axes = [Axis(size) for size in node.shape]
        nest.loops(axes, step, vector="", independent=len(axes))

    scope.lines += print_nest(body, scope.symbols, scope.dialect)


def copy_tile(scope: Scope, shape: tuple[Dim, ...], source: Buffer, target: Buffer) -> None:
    """Print the loops that copy one buffer into another of the same type."""

    def body(nest: Nest) -> None:
        def step(indices: Indices) -> None:
            read, written = buffer_offset(source, indices), buffer_offset(target, indices)
            nest.emit(f"{target.text}[{written}] = {source.text}[{read}];")

        axes = [Axis(size) for size in shape]
        nest.loops(axes, step, vector="", independent=len(axes))

    scope.lines += print_nest(body, scope.symbols, scope.dialect)
