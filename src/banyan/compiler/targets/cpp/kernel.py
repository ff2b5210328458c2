"""One kernel as a C++ function: its region printed node by node."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from banyan.compiler.ir.graph import Kernel, Node
from banyan.compiler.ir.placement import place, symbol_names
from banyan.compiler.ir.symbols import product, symbols_in
from banyan.compiler.targets.cpp.bounds import kernel_facts
from banyan.compiler.targets.cpp.dialect import CPP, Dialect
from banyan.compiler.targets.cpp.dots import MicroKernels, is_direct_operand, is_gathered_operand
from banyan.compiler.targets.cpp.expressions import STORED
from banyan.compiler.targets.cpp.materialise import DOTS, accumulations, is_tile_dot, kept_tiles
from banyan.compiler.targets.cpp.regions import Products, RegionPrinter
from banyan.compiler.targets.cpp.scope import Scalar, Scope, Scratch
from banyan.compiler.targets.program import KernelText


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
    nodes = tuple(node for region in order.values() for node in region)
    facts = kernel_facts(kernel, nodes)
    names = {name: f"n{i}" for i, name in enumerate(_kernel_symbols(kernel, nodes, facts.bound))}
    pointers = {pointer: f"p{i}" for i, pointer in enumerate(kernel.pointers)}
    scratch = Scratch()
    scope = Scope(dict(names), pointers, facts, scratch, dialect, count=[len(names)])
    lines = _grid(kernel, scope)

    def is_direct(node: Node, user: Node) -> bool:
        in_blocks = gathers and is_gathered_operand(node, user, facts)
        return in_blocks or is_direct_operand(node, user, facts)

    kept = kept_tiles(order, is_direct)
    operands = frozenset(arg for node in nodes if node.op in DOTS for arg in node.args)
    printer = RegionPrinter(order, kept, operands & kept, products, accumulations(order), gathers)
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
