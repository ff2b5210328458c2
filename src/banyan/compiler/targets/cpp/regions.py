"""The regions of one kernel, printed node by node; what loops carry lies in buffers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from banyan.compiler.ir.attributes import integer
from banyan.compiler.ir.graph import Node, Region
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.types import DType, TupleType
from banyan.compiler.targets.cpp import reductions
from banyan.compiler.targets.cpp.blocks import (
    fetch_rows,
    note_following_blocks,
    scalars_first,
)
from banyan.compiler.targets.cpp.elements import print_elements, print_tile
from banyan.compiler.targets.cpp.expressions import computed_type, pointwise_text
from banyan.compiler.targets.cpp.materialise import DOTS, Accumulation, is_tile_dot
from banyan.compiler.targets.cpp.scope import Buffer, Held, Scalar, Scope
from banyan.compiler.targets.cpp.stores import print_store
from banyan.foundation.errors import CompilationFailed


class Products(Protocol):
    """Prints matrix products."""

    def print_dot(self, scope: Scope, node: Node) -> Buffer:
        """Print a product into a float32 tile of its own."""

    def add_dot(self, scope: Scope, node: Node, target: Buffer) -> None:
        """Print a product that adds to a float32 tile."""


@dataclass(frozen=True, slots=True)
class RegionPrinter:
    """Prints regions of one kernel.

    Attributes:
        order: the nodes of every region.
        kept: tiles in scratch memory.
        operands: those of them that products read.
        products: how products are printed.
        sums: the carried results that dots add to where they lie.
        fetches: whether blocks that a later step reads are asked for early.
        results: what holds the results of each loop.
    """

    order: Mapping[Region, Sequence[Node]]
    kept: frozenset[Node]
    operands: frozenset[Node]
    products: Products
    sums: Mapping[Node, Accumulation]
    fetches: bool
    results: dict[Node, tuple[Held, ...]] = field(default_factory=dict)

    def region(self, scope: Scope, region: Region) -> None:
        """Print every node of a region that needs text of its own."""
        added = [dot for total in self.sums.values() for dot in total.dots]
        first, rest = scalars_first(self.order[region])
        for node in first:
            self._node(scope, node)
        printed = [node for node in rest if node not in added]
        dots = filter(is_tile_dot, [*printed, *(dot for dot in added if dot in rest)])
        if self.fetches:
            note_following_blocks(scope, list(dots), region)
            fetch_rows(scope, rest, region)
        for node in printed:
            self._node(scope, node)

    def _node(self, scope: Scope, node: Node) -> None:
        """Print one node, unless it is evaluated where it is used."""
        if node.op == "store":
            print_store(scope, node)
        elif node.op == "bind":
            name = str(node.attr("name"))
            value = scope.scalar(node.args[0])
            scope.symbols[name] = scope.name("n")
            scope.emit(f"const index_t {scope.symbols[name]} = {value};  // {name}")
        elif node.op == "loop":
            self.results[node] = self._loop(scope, node)
        elif node.op == "get":
            scope.values[node] = self.results[node.args[0]][integer(node, "index")]
        elif isinstance(node.type, TupleType):
            raise CompilationFailed(f"the C++ target cannot print {node.op!r} inside a kernel")
        elif node.shape == () and node.op != "constant":
            scope.values[node] = self._scalar(scope, node)
        elif node in self.kept:
            scope.values[node] = self._keep(scope, node)

    def _scalar(self, scope: Scope, node: Node) -> Scalar:
        exact = scope.facts.exactly(node)
        if node.op == "size" and exact is not None:
            return Scalar(f"index_t({scope.dim(exact)})")
        if node.op == "reduce":
            return reductions.reduce_into_scalar(scope, node)
        if node.op in POINTWISE:
            text = pointwise_text(node, [scope.scalar(arg) for arg in node.args])
            kind = computed_type(node.dtype) if exact is None else "index_t"
            return scope.keep("s", f"const {kind}", text)
        # Read from memory or out of a tile.
        name = scope.name("s")
        scope.emit(f"{computed_type(node.dtype)} {name};")
        print_elements(scope, lambda e: e.nest.emit(f"{name} = {e.element(node, ()).text};"))
        return Scalar(name)

    def _keep(self, scope: Scope, node: Node) -> Buffer:
        """Print a tile into a scratch buffer."""
        if node.op in DOTS:
            return self.products.print_dot(scope, node)
        is_wide = node.dtype.is_floating and node not in self.operands
        target = scope.allocate(node.shape, DType.FLOAT32 if is_wide else node.dtype)
        printers = {"reduce": reductions.reduce_into_buffer, "cumsum": reductions.running_sum}
        printers.get(node.op, print_tile)(scope, node, target)
        return target

    def _loop(self, scope: Scope, node: Node) -> tuple[Held, ...]:
        """Print a loop; what it returns holds its results."""
        body, step = node.attr("body"), integer(node, "step")
        if not isinstance(body, Region):
            raise CompilationFailed("a loop needs a body")
        start, stop, *initial = node.args
        carried = tuple(_carry(scope, value) for value in initial)
        index = scope.name("r")
        advance = f"++{index}" if step == 1 else f"{index} += {step}"
        condition = f"{index} < {scope.scalar(stop)}"
        scope.emit(f"for (index_t {index} = {scope.scalar(start)}; {condition}; {advance}) {{")
        inner = scope.inner()
        mark = scope.scratch.next_byte
        inner.values[body.parameters[0]] = Scalar(index)
        inner.values.update(zip(body.parameters[1:], carried, strict=True))
        self.region(inner, body)
        self._assign_tiles(inner, body, carried)
        _assign_scalars(inner, body, carried)
        scope.scratch.next_byte = mark
        scope.lines += [*inner.lines, "}"]
        return carried

    def _assign_tiles(self, scope: Scope, body: Region, carried: Sequence[Held]) -> None:
        """Give every carried tile its next value.

        A tile computed in place reads other carried tiles as they were, so readers go first; where
        two read each other, one is computed aside.
        """
        parameters, results = body.parameters[1:], body.results
        targets = {
            k: held
            for k, held in enumerate(carried)
            if isinstance(held, Buffer) and results[k] is not parameters[k]
        }
        reads = {k: _reads(scope, results[k]) for k in targets}
        pending, aside = list(targets), dict[int, Buffer]()
        while pending:
            others = {k: {node for j in pending if j != k for node, _ in reads[j]} for k in pending}
            ready = [k for k in pending if parameters[k] not in others[k]]
            k = (ready or pending)[0]
            pending.remove(k)
            if not ready or (parameters[k], True) in reads[k]:
                aside[k] = scope.allocate(results[k].shape, targets[k].dtype)
            self._print_result(scope, results[k], aside.get(k, targets[k]))
        for k, buffer in aside.items():
            scope.values[results[k]] = buffer
            print_tile(scope, results[k], targets[k])

    def _print_result(self, scope: Scope, result: Node, target: Buffer) -> None:
        total = self.sums.get(result)
        print_tile(scope, result if total is None else total.base, target)
        for dot in () if total is None else total.dots:
            self.products.add_dot(scope, dot, target)


def _carry(scope: Scope, value: Node) -> Held:
    if value.shape == ():
        return scope.keep("c", computed_type(value.dtype), scope.scalar(value))
    target = scope.allocate(value.shape, DType.FLOAT32 if value.dtype.is_floating else value.dtype)
    print_tile(scope, value, target)
    return target


def _assign_scalars(scope: Scope, body: Region, carried: Sequence[Held]) -> None:
    pairs = [
        (held, scope.keep("s", f"const {computed_type(result.dtype)}", scope.scalar(result)))
        for held, result in zip(carried, body.results, strict=True)
        if isinstance(held, Scalar)
    ]
    for target, value in pairs:
        scope.emit(f"{target.text} = {value.text};")


def _reads(scope: Scope, result: Node) -> set[tuple[Node, bool]]:
    """What the text of a tile reads, with whether it may read another element than its own."""
    pending = [(result, False)]
    seen: set[tuple[Node, bool]] = set()
    while pending:
        node, moved = pending.pop()
        if (node, moved) not in seen:
            seen.add((node, moved))
            if node not in scope.values:
                moves = moved or node.op not in POINTWISE
                pending.extend((arg, moves) for arg in node.args)
    return seen
