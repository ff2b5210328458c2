"""One kernel as a C++ function: its region printed node by node."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from banyan.compiler.ir.graph import Kernel, Node, Region
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.placement import place, symbol_names
from banyan.compiler.ir.symbols import product, symbols_in
from banyan.compiler.ir.types import DType, TupleType
from banyan.compiler.targets.cpp import reductions
from banyan.compiler.targets.cpp.accesses import scalar_text
from banyan.compiler.targets.cpp.accumulation import Accumulation, accumulations, is_tile_dot
from banyan.compiler.targets.cpp.bounds import kernel_facts
from banyan.compiler.targets.cpp.dialect import CPP, Dialect
from banyan.compiler.targets.cpp.dots import MicroKernels, is_direct_operand, is_gathered_operand
from banyan.compiler.targets.cpp.elements import Elements
from banyan.compiler.targets.cpp.expressions import (
    STORED,
    computed_type,
    pointwise_text,
)
from banyan.compiler.targets.cpp.loops import Products, print_loop
from banyan.compiler.targets.cpp.materialise import kept_tiles
from banyan.compiler.targets.cpp.nest import Nest, print_nest
from banyan.compiler.targets.cpp.prefetch import (
    fetch_following_rows,
    note_following_blocks,
    scalars_first,
)
from banyan.compiler.targets.cpp.scope import Buffer, Held, Scalar, Scope, Scratch
from banyan.compiler.targets.cpp.stores import print_store
from banyan.compiler.targets.cpp.tiles import print_tile
from banyan.compiler.targets.program import KernelText
from banyan.foundation.errors import CompilationFailed

_DOTS = frozenset({"dot", "packed_dot", "quantize_rows", "quantized_dot"})


@dataclass(slots=True)
class RegionPrinter:
    """Prints regions of one kernel."""

    order: Mapping[Region, Sequence[Node]]
    kept: frozenset[Node]
    operands: frozenset[Node]
    products: Products
    results: dict[Node, tuple[Held, ...]]
    sums: Mapping[Node, Accumulation]
    fetches: bool

    def region(self, scope: Scope, region: Region) -> None:
        """Print every node of a region that needs text of its own."""
        added = [dot for total in self.sums.values() for dot in total.dots]
        first, rest = scalars_first(self.order[region])
        for node in first:
            self.node(scope, node)
        printed = [node for node in rest if node not in added]
        dots = filter(is_tile_dot, [*printed, *(dot for dot in added if dot in rest)])
        if self.fetches:
            note_following_blocks(scope, list(dots), region)
            fetch_following_rows(scope, rest, region)
        for node in printed:
            self.node(scope, node)

    def node(self, scope: Scope, node: Node) -> None:
        """Print one node, unless it is evaluated where it is used."""
        if node.op == "store":
            scope.lines += print_store(scope, node)
        elif node.op == "bind":
            name = str(node.attr("name"))
            scope.symbols[name] = scope.name("n")
            value = scalar_text(scope, node.args[0])
            scope.emit(f"const index_t {scope.symbols[name]} = {value};  // {name}")
        elif node.op == "loop":
            self.results[node] = print_loop(self, scope, node)
        elif node.op == "get":
            index = node.attr("index")
            scope.values[node] = self.results[node.args[0]][index if isinstance(index, int) else 0]
        elif isinstance(node.type, TupleType):
            raise CompilationFailed(f"the C++ target cannot print {node.op!r} inside a kernel")
        elif node.shape == ():
            self._scalar(scope, node)
        elif node in self.kept:
            scope.values[node] = self.keep(scope, node)

    def _scalar(self, scope: Scope, node: Node) -> None:
        if node.op == "constant":
            return
        if node.op == "size":
            dim = scope.facts.exactly(node)
            scope.values[node] = Scalar(f"index_t({scope.dim(dim if dim is not None else 0)})")
        elif node.op == "reduce":
            scope.values[node] = reductions.reduce_into_scalar(scope, node)
        elif node.op in POINTWISE:
            text = pointwise_text(node, [scalar_text(scope, arg) for arg in node.args])
            name = scope.name("s")
            is_index = scope.facts.exactly(node) is not None
            kind = "index_t" if is_index else computed_type(node.dtype)
            scope.emit(f"const {kind} {name} = {text};")
            scope.values[node] = Scalar(name)
        else:
            scope.values[node] = self._picked(scope, node)

    def _picked(self, scope: Scope, node: Node) -> Scalar:
        """A scalar read from memory or out of a tile."""
        name = scope.name("s")
        scope.emit(f"{computed_type(node.dtype)} {name};")

        def body(nest: Nest) -> None:
            nest.emit(f"{name} = {Elements(scope, nest).element(node, ()).text};")

        scope.lines += print_nest(body, scope.symbols, scope.dialect)
        return Scalar(name)

    def keep(self, scope: Scope, node: Node) -> Buffer:
        """Print a tile into a scratch buffer."""
        if node.op in _DOTS:
            return self.products.print_dot(scope, node)
        is_narrow = node.dtype.is_floating and node not in self.operands
        target = scope.allocate(node.shape, DType.FLOAT32 if is_narrow else node.dtype)
        if node.op == "reduce":
            reductions.reduce_into_buffer(scope, node, target)
        elif node.op == "cumsum":
            reductions.running_sum(scope, node, target)
        else:
            print_tile(scope, node, target)
        return target


@dataclass(frozen=True, slots=True)
class KernelBody:
    """What every dialect's function of a kernel holds.

    Attributes:
        lines: the statements after the declarations of pointers and sizes.
        pointers: the name of each pointer.
        names: the name of each symbol, in the order they are passed.
        scratch_bytes: scratch memory one item needs.
        nodes: everything the kernel computes.
    """

    lines: tuple[str, ...]
    pointers: Mapping[Node, str]
    names: Mapping[str, str]
    scratch_bytes: int
    nodes: tuple[Node, ...]


def print_kernel(kernel: Kernel, instruction_set: str) -> KernelText:
    """Print one kernel as a C++ function.

    Raises:
        CompilationFailed: an operation that the C++ target has no text for.
    """
    body = print_body(kernel, CPP, MicroKernels(instruction_set), gathers=True)
    lines = _opening(kernel, body.names, body.pointers)
    if any(map(is_tile_dot, body.nodes)):
        lines.append("const banyan::DotSession session;")
    text = "\n".join(indented([*lines, *body.lines]))
    return KernelText(text, tuple(body.names), body.scratch_bytes)


def print_body(
    kernel: Kernel, dialect: Dialect, products: Products, *, gathers: bool = False
) -> KernelBody:
    """Print what a kernel computes for the grid item whose number is `item`.

    With `gathers`, products take gathered blocks where they lie instead of copied together.

    Raises:
        CompilationFailed: an operation that has no text.
    """
    order = place(kernel.body)
    facts = kernel_facts(kernel)
    nodes = tuple(node for region in order.values() for node in region)
    names = {name: f"n{i}" for i, name in enumerate(_kernel_symbols(kernel, nodes, facts.bound))}
    pointers = {pointer: f"p{i}" for i, pointer in enumerate(kernel.pointers)}
    scratch = Scratch()
    scope = Scope(dict(names), pointers, facts, scratch, dialect, count=[len(names)])
    lines = _grid(kernel, scope)

    def is_direct(node: Node, user: Node) -> bool:
        in_blocks = gathers and is_gathered_operand(node, user, facts)
        return in_blocks or is_direct_operand(node, user, facts)

    kept = kept_tiles(order, is_direct)
    operands = frozenset(arg for node in nodes if node.op in _DOTS for arg in node.args)
    sums = accumulations(order)
    printer = RegionPrinter(order, kept, operands & kept, products, {}, sums, gathers)
    printer.region(scope, kernel.body)
    all_lines = (*lines, *scope.lines)
    return KernelBody(all_lines, pointers, names, scratch.most_bytes, nodes)


def _kernel_symbols(kernel: Kernel, nodes: Sequence[Node], bound: Collection[str]) -> list[str]:
    """The symbols a kernel reads; `bound` are those it gives values to itself."""
    found = [name for pointer in kernel.pointers for name in symbol_names(pointer)]
    found += [symbol.name for dim in kernel.grid for symbol in symbols_in(dim)]
    found += [name for node in nodes for name in symbol_names(node)]
    return [name for name in dict.fromkeys(found) if name not in bound]


def _opening(kernel: Kernel, names: Mapping[str, str], pointers: Mapping[Node, str]) -> list[str]:
    lines = ["const call& self = *static_cast<const call*>(context);"]
    lines.append("char* const scratch = static_cast<char*>(self.scratch[thread]);")
    for i, (pointer, name) in enumerate(pointers.items()):
        kind = STORED[pointer.dtype]
        constant = "const " if pointer.attr("access") == "read" else ""
        pointed = f"{constant}{kind}*"
        lines.append(
            f"{pointed} const {name} = static_cast<{pointed}>(self.pointers[{i}]);"
            f"  // {pointer.attr('name')}"
        )
    for i, (symbol, name) in enumerate(names.items()):
        lines.append(f"const index_t {name} = self.sizes[{i}];  // {symbol}")
    return lines


def _grid(kernel: Kernel, scope: Scope) -> list[str]:
    """Grid indices from the item's number; the last axis is the fastest."""
    lines = []
    parameters = kernel.body.parameters
    for axis, parameter in enumerate(parameters):
        name = f"g{axis}"
        scope.values[parameter] = Scalar(name)
        inner = product(kernel.grid[axis + 1 :])
        text = "item" if inner == 1 else f"item / ({scope.dim(inner)})"
        if axis > 0:
            text = f"({text}) % ({scope.dim(kernel.grid[axis])})"
        lines.append(f"const index_t {name} = {text};")
    return lines


def indented(lines: Sequence[str]) -> list[str]:
    """The lines with two spaces for each open brace."""
    depth, found = 1, []
    for line in lines:
        depth -= line.startswith("}")
        found.append("  " * depth + line if not line.startswith("#") else line)
        depth += line.endswith("{")
    return found
