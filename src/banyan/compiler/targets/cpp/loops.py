"""Loops with carried values: tiles are carried in scratch buffers, scalars in variables."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from banyan.compiler.ir.graph import Node, Region
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.accesses import scalar_text
from banyan.compiler.targets.cpp.accumulation import Accumulation
from banyan.compiler.targets.cpp.expressions import computed_type
from banyan.compiler.targets.cpp.scope import Buffer, Held, Scalar, Scope
from banyan.compiler.targets.cpp.tiles import copy_tile, print_tile
from banyan.foundation.errors import CompilationFailed


class Products(Protocol):
    """Prints matrix products."""

    def print_dot(self, scope: Scope, node: Node) -> Buffer:
        """Print a product into a float32 tile of its own."""
        ...

    def add_dot(self, scope: Scope, node: Node, target: Buffer) -> None:
        """Print a product that adds to a float32 tile."""
        ...


class RegionPrinter(Protocol):
    """Prints the nodes of a region; `kernel` has the one there is.

    `sums` are the carried results that dots add to where they lie.
    """

    sums: Mapping[Node, Accumulation]
    products: Products

    def region(self, scope: Scope, region: Region) -> None:
        """Print every node of a region that needs text of its own."""
        ...


def print_loop(printer: RegionPrinter, scope: Scope, node: Node) -> tuple[Held, ...]:
    """Print a loop; what it returns holds its results."""
    body, step = node.attr("body"), node.attr("step")
    if not isinstance(body, Region) or not isinstance(step, int):
        raise CompilationFailed("a loop needs a body and a step")
    start, stop, *initial = node.args
    carried = tuple(_carry(scope, value) for value in initial)
    index = scope.name("r")
    first, last = scalar_text(scope, start), scalar_text(scope, stop)
    advance = f"++{index}" if step == 1 else f"{index} += {step}"
    scope.emit(f"for (index_t {index} = {first}; {index} < {last}; {advance}) {{")
    inner = scope.inner()
    mark = scope.scratch.next_byte
    inner.values[body.parameters[0]] = Scalar(index)
    inner.values.update(zip(body.parameters[1:], carried, strict=True))
    printer.region(inner, body)
    _assign(printer, inner, body, carried)
    scope.scratch.next_byte = mark
    scope.lines += [*inner.lines, "}"]
    return carried


def _carry(scope: Scope, value: Node) -> Held:
    if value.shape == ():
        name = scope.name("c")
        scope.emit(f"{computed_type(value.dtype)} {name} = {scalar_text(scope, value)};")
        return Scalar(name)
    target = scope.allocate(value.shape, DType.FLOAT32 if value.dtype.is_floating else value.dtype)
    print_tile(scope, value, target)
    return target


def _assign(printer: RegionPrinter, scope: Scope, body: Region, carried: Sequence[Held]) -> None:
    """Give every carried value its next one.

    A tile computed in place reads other carried tiles as they were, so readers go first; where two
    read each other, one is computed aside.
    """
    parameters = body.parameters[1:]
    pending = [
        k for k, result in enumerate(body.results) if result is not parameters[k] and result.shape
    ]
    reads = {k: _carried_reads(scope, body.results[k], parameters) for k in pending}
    aside: dict[int, Buffer] = {}
    while pending:
        ready = [k for k in pending if not any(k in reads[j] for j in pending if j != k)]
        k = (ready or pending)[0]
        pending.remove(k)
        target, result = carried[k], body.results[k]
        if not isinstance(target, Buffer):
            raise CompilationFailed("a carried tile is not in scratch memory")
        in_place = bool(ready) and not _moves(scope, result, parameters[k])
        if not in_place:
            aside[k] = scope.allocate(result.shape, target.dtype)
        _print_result(printer, scope, result, target if in_place else aside[k])
    for k, buffer in aside.items():
        target = carried[k]
        if isinstance(target, Buffer):
            copy_tile(scope, body.results[k].shape, buffer, target)
    _assign_scalars(scope, body, carried)


def _print_result(printer: RegionPrinter, scope: Scope, result: Node, target: Buffer) -> None:
    total = printer.sums.get(result)
    if total is None:
        print_tile(scope, result, target)
        return
    print_tile(scope, total.base, target)
    for dot in total.dots:
        printer.products.add_dot(scope, dot, target)


def _assign_scalars(scope: Scope, body: Region, carried: Sequence[Held]) -> None:
    names = []
    for held, result in zip(carried, body.results, strict=True):
        if isinstance(held, Scalar):
            name = scope.name("s")
            scope.emit(
                f"const {computed_type(result.dtype)} {name} = {scalar_text(scope, result)};"
            )
            names.append((held.text, name))
    for target, name in names:
        scope.emit(f"{target} = {name};")


def _carried_reads(scope: Scope, result: Node, parameters: Sequence[Node]) -> frozenset[int]:
    """Which carried tiles the text of `result` reads, kept tiles aside."""
    found: set[int] = set()
    pending = [result]
    seen: set[Node] = set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in parameters:
            found.add(parameters.index(node))
        elif node not in scope.values:
            pending.extend(node.args)
    return frozenset(found)


def _moves(scope: Scope, result: Node, parameter: Node) -> bool:
    """True when an element of `result` may read another element of `parameter` than its own."""
    pending = [(result, False)]
    seen: set[tuple[Node, bool]] = set()
    while pending:
        node, moved = pending.pop()
        if (node, moved) in seen:
            continue
        seen.add((node, moved))
        if node is parameter and moved:
            return True
        if node not in scope.values:
            moves = moved or node.op not in POINTWISE
            pending.extend((arg, moves) for arg in node.args)
    return False
