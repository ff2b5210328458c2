"""Graphs as text: `print_graph`. The other direction is in `parse`.

One line per node, arguments before users, numbered from %0. Each distinct kernel is printed once
and called by its number, so equal layers stay short.

    graph name {
      symbol T in [1, 4096]
      kernel @0 scale grid (T) {
        %0 = pointer {access="read", name="x"} : f32[T, 8]
        body (%2 : tile i64[]) {
          ...
          yield
        }
      }
      %0 = input {name="x", packing=none, role="argument"} : f32[T, 8]
      output y = %1
    }
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from banyan.compiler.ir.graph import Attribute, Graph, Kernel, Node, Region
from banyan.compiler.ir.placement import place
from banyan.compiler.ir.symbols import Expression
from banyan.compiler.ir.types import DType, TensorType


def print_graph(graph: Graph) -> str:
    """The text of a graph; `parse_graph` reads it back."""
    nodes = graph.nodes()
    printer = _Printer(kernels=_number_kernels(nodes))
    lines = [f"graph {graph.name} {{"]
    for symbol in graph.symbols():
        lines.append(f"  symbol {symbol.name} in [{symbol.minimum}, {symbol.maximum}]")
    for kernel, number in printer.kernels.items():
        lines += _indent(print_kernel(kernel, f"@{number}").splitlines())
    lines += [f"  {printer.line(node)}" for node in nodes]
    for output in graph.outputs:
        updates = "" if output.updates is None else f" updates {output.updates}"
        lines.append(f"  output {output.name} = {printer.names[output.node]}{updates}")
    return "\n".join([*lines, "}"]) + "\n"


def print_kernel(kernel: Kernel, label: str = "@0") -> str:
    """The text of one kernel, numbered on its own: equal kernels give equal texts."""
    printer = _Printer(kernels={})
    grid = ", ".join(str(size) for size in kernel.grid)
    lines = [f"kernel {label} {kernel.name} grid ({grid}) {{"]
    lines += [f"  {printer.line(pointer)}" for pointer in kernel.pointers]
    lines += _indent(printer.region(kernel.body, place(kernel.body)))
    return "\n".join([*lines, "}"])


def _number_kernels(nodes: list[Node]) -> dict[Kernel, int]:
    found: dict[Kernel, int] = {}
    for node in nodes:
        for _, value in node.attrs:
            if isinstance(value, Kernel):
                found.setdefault(value, len(found))
    return found


def _indent(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


@dataclass(slots=True)
class _Printer:
    kernels: Mapping[Kernel, int]
    names: dict[Node, str] = field(default_factory=dict)

    def name(self, node: Node) -> str:
        """Give `node` the next number."""
        return self.names.setdefault(node, f"%{len(self.names)}")

    def line(self, node: Node) -> str:
        """`%3 = add %1, %2 {attributes} : type`, without regions."""
        args = ", ".join(self.names[arg] for arg in node.args)
        shown = [f"{k}={self.value(v)}" for k, v in node.attrs if not isinstance(v, Region)]
        parts = [f"{self.name(node)} = {node.op}"]
        parts += [args] if args else []
        parts += [f"{{{', '.join(shown)}}}"] if shown else []
        return " ".join([*parts, ":", str(node.type)])

    def region(self, region: Region, order: Mapping[Region, tuple[Node, ...]]) -> list[str]:
        """`body (parameters) { lines; yield results }`."""
        header = ", ".join(f"{self.name(p)} : {p.type}" for p in region.parameters)
        lines = [f"body ({header}) {{"]
        for node in order[region]:
            lines.append(f"  {self.line(node)}")
            for _, value in node.attrs:
                if isinstance(value, Region):
                    lines += _indent(_indent(self.region(value, order)))
        results = ", ".join(self.names[result] for result in region.results)
        return [*lines, f"  yield {results}".rstrip(), "}"]

    def value(self, value: Attribute) -> str:
        """The text of one attribute."""
        if isinstance(value, Kernel):
            return f"@{self.kernels[value]}"
        if isinstance(value, Expression):
            return f"[{value}]"
        if isinstance(value, TensorType):
            return f"type {value}"
        if isinstance(value, tuple):
            return f"({', '.join(self.value(item) for item in value)})"
        return _plain(value)


def _plain(value: Attribute) -> str:
    if value is None:
        return "none"
    if isinstance(value, DType):
        return value.value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, str) else repr(value)
