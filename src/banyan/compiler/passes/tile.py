"""Tile: each root and what it draws in becomes a `call` of a kernel.

The result holds only `input`, `data`, `reshape` (a view), `call`, `get` and `extern` nodes, and
`concat` of packed weights, which lie behind each other (a view too).
Groups that look alike share one `Kernel` object, however many layers a model has.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from banyan.compiler.ir.graph import Builder, Graph, Kernel, Node, Output, rebuild
from banyan.compiler.ir.packing import is_joined_weights
from banyan.compiler.passes.fuse import PRODUCTS, Fusion, is_view, plan_fusion
from banyan.compiler.passes.join_rows import join_rows
from banyan.compiler.passes.lower_programs import Context, lower_program
from banyan.compiler.tiling.blocks import product_kernel
from banyan.compiler.tiling.options import TileOptions
from banyan.compiler.tiling.rows import row_kernel
from banyan.compiler.tiling.rules import RULES
from banyan.compiler.tiling.windows import CannotPull
from banyan.compiler.tiling.writer import Writer

LARGEST_RETRY = 64


def tile(graph: Graph, options: TileOptions | None = None) -> Graph:
    """Lower every node of a stage-1 graph to kernels."""
    return _Lowering(graph, options or TileOptions()).run()


@dataclass(slots=True)
class _Shape:
    """What makes two groups alike: the same nodes over the same kinds of memory."""

    leaves: list[Node] = field(default_factory=list)
    lines: list[tuple[object, ...]] = field(default_factory=list)


class _Lowering:
    def __init__(self, graph: Graph, options: TileOptions) -> None:
        self.graph = graph
        self.options = options
        self.fusion: Fusion = join_rows(graph, plan_fusion(graph, options))
        self.memory = set(self.fusion.memory)
        self.builder = Builder()
        self.lowered: dict[Node, Node] = {}
        self.kernels: dict[tuple[object, ...], Kernel] = {}
        self.names: dict[str, int] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes():
            if node in self.memory and node not in self.lowered:
                self._lower(node)
        outputs = tuple(Output(o.name, self.value(o.node), o.updates) for o in self.graph.outputs)
        return Graph(self.graph.name, tuple(self.lowered[n] for n in self.graph.inputs), outputs)

    def value(self, node: Node) -> Node:
        """The lowered node of something in memory or a view of it."""
        if node in self.lowered:
            return self.lowered[node]
        if node.op == "reshape":
            view = self.builder.add("reshape", (self.value(node.args[0]),), shape=node.shape)
            self.lowered[node] = view
            return view
        self._lower(node)
        return self.lowered[node]

    def is_memory(self, node: Node) -> bool:
        return node in self.memory or (node.op == "reshape" and is_view(node, self.memory))

    def _lower(self, node: Node) -> None:
        self.memory.add(node)
        if node.op in {"input", "data", "extern", "get"} or is_joined_weights(node):
            args = tuple(self.value(arg) for arg in node.args)
            self.lowered[node] = rebuild(self.builder, node, args)
            return
        context = Context(self.builder, self.once, self.value, self.options, self.is_memory)
        program = lower_program(context, node)
        if program is not None:
            self.lowered[node] = program
        else:
            self._lower_group(self.fusion.siblings.get(node, (node,)))

    def _lower_group(self, roots: tuple[Node, ...]) -> None:
        for _ in range(LARGEST_RETRY):
            try:
                kernel, leaves = self._kernel(roots)
            except CannotPull as refused:
                if refused.node in roots:
                    raise
                self._lower(refused.node)
            else:
                arguments = tuple(self.value(leaf) for leaf in leaves)
                call = self.builder.add("call", arguments, kernel=kernel)
                for index, root in enumerate(roots):
                    self.lowered[root] = self.builder.add("get", (call,), index=index)
                return
        raise CannotPull(roots[0])

    def _kernel(self, roots: tuple[Node, ...]) -> tuple[Kernel, list[Node]]:
        shape, root = self._shape(roots), roots[0]
        product = self.fusion.products.get(root, root if root.op in PRODUCTS else None)
        key = (product is not None, len(roots), *shape.lines)
        found = self.kernels.get(key)
        if found is None:
            writer = Writer(
                self.builder,
                lambda node: node not in roots and self.is_memory(node),
                RULES,
                self.options,
            )
            for leaf in shape.leaves:
                writer.pointer(leaf)
            if product is None:
                found = row_kernel(writer, roots)
            else:
                found = product_kernel(writer, root, product)
            found = replace(found, name=self.unique_name(found.name))
            self.kernels[key] = found
        return found, shape.leaves

    def once(self, key: tuple[object, ...], make: Callable[[], Kernel]) -> Kernel:
        """The kernel for `key`, made the first time it is asked for."""
        if key not in self.kernels:
            kernel = make()
            self.kernels[key] = replace(kernel, name=self.unique_name(kernel.name))
        return self.kernels[key]

    def unique_name(self, base: str) -> str:
        number = self.names.get(base, 0)
        self.names[base] = number + 1
        return f"{base}_{number}"

    def _shape(self, roots: tuple[Node, ...]) -> _Shape:
        """Number the nodes of a group in a fixed order, naming memory by its place."""
        shape = _Shape()
        numbers: dict[Node, int] = {}
        pending = [(root, False) for root in reversed(roots)]
        while pending:
            node, ready = pending.pop()
            if node in numbers:
                continue
            if node not in roots and self.is_memory(node):
                packing = node.attr("packing") if node.op == "input" else None
                shape.leaves.append(node)
                numbers[node] = len(numbers)
                shape.lines.append(("memory", node.type, packing))
            elif ready:
                numbers[node] = len(numbers)
                shape.lines.append((node.op, _exact(node.attrs), *(numbers[a] for a in node.args)))
            else:
                pending.append((node, True))
                pending.extend((arg, False) for arg in reversed(node.args))
        shape.lines.append(tuple(numbers[root] for root in roots))
        return shape


def _exact(attrs: Iterable[tuple[str, object]]) -> tuple[object, ...]:
    # repr tells 1 from True and from 1.0, which compare equal.
    return tuple((key, repr(value)) for key, value in attrs)
