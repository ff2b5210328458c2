"""Where in a kernel each node is computed, and in which order.

A region's nodes refer freely to nodes of the regions around it. A node belongs to the outermost
region in which everything it needs is known: its parameters and the symbols bound by `bind`.
Printers, the interpreter and the verifier all walk the same placement, so a value that does not
change inside a loop is computed once before it.

A `load` is placed like any pure node: a kernel must not read, after a store in the same region,
what that store wrote.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from banyan.compiler.ir.graph import Node, Region, iterate_regions
from banyan.compiler.ir.operations import EFFECTS
from banyan.compiler.ir.symbols import Expression, symbols_in
from banyan.compiler.ir.types import TupleType

Needs = frozenset["Node | str"]


def place(body: Region) -> dict[Region, tuple[Node, ...]]:
    """Order the nodes of `body` and of every region nested in it, arguments before users.

    Parameters and pointers are not listed. Loops with effects stay where the body put them.
    """
    placer = _Placer()
    placer.enter(body, depth=0)
    return {region: tuple(nodes) for region, nodes in placer.order.items()}


def has_effects(node: Node) -> bool:
    """True for stores, binds, and loops around them."""
    if node.op in EFFECTS:
        return True
    return any(has_effects(e) for region in iterate_regions(node) for e in region.effects)


@dataclass(slots=True)
class _Placer:
    order: dict[Region, list[Node]] = field(default_factory=dict)
    stack: list[Region] = field(default_factory=list)
    level_of: dict[Node | str, int] = field(default_factory=dict)
    needs_of: dict[Node, Needs] = field(default_factory=dict)
    placed: set[Node] = field(default_factory=set)

    def enter(self, region: Region, *, depth: int) -> None:
        self.order[region] = []
        self.stack.append(region)
        self.level_of.update(dict.fromkeys(region.parameters, depth))
        self.level_of.update(dict.fromkeys(_bound_names(region), depth))
        for node in (*region.effects, *region.results):
            self.place(node, forced=depth if has_effects(node) else None)
        self.stack.pop()

    def place(self, root: Node, *, forced: int | None = None) -> None:
        pending: list[tuple[Node, bool]] = [(root, False)]
        while pending:
            node, ready = pending.pop()
            if node in self.placed or node.op in {"parameter", "pointer"}:
                continue
            if not ready:
                pending.append((node, True))
                pending.extend((arg, False) for arg in reversed(node.args))
                continue
            level = forced if node is root and forced is not None else self.level(node)
            self.placed.add(node)
            self._descend(node, level)
            self.order[self.stack[level]].append(node)

    def _descend(self, node: Node, level: int) -> None:
        if node.op == "call":
            return
        for region in iterate_regions(node):
            # A loop hoisted out of the current region sees only the regions around its own.
            hidden = self.stack[level + 1 :]
            del self.stack[level + 1 :]
            self.enter(region, depth=level + 1)
            self.stack.extend(hidden)

    def level(self, node: Node) -> int:
        return max((self.level_of[need] for need in self.needs(node)), default=0)

    def needs(self, root: Node) -> Needs:
        for node in _postorder(root, self.needs_of):
            found: set[Node | str] = set(symbol_names(node))
            for arg in node.args:
                found |= self.needs_of[arg]
            if node.op == "parameter":
                found.add(node)
            for region in iterate_regions(node):
                found |= self._region_needs(region)
            self.needs_of[node] = frozenset(n for n in found if self._varies(n))
        return self.needs_of[root]

    def _region_needs(self, region: Region) -> set[Node | str]:
        inner: set[Node | str] = set()
        own: set[Node | str] = {*region.parameters, *_bound_names(region)}
        unknown = [name for name in own if name not in self.level_of]
        self.level_of.update(dict.fromkeys(unknown, 0))
        for node in (*region.effects, *region.results):
            inner |= self.needs(node)
        return inner - own

    def _varies(self, need: "Node | str") -> bool:
        # Symbols of the whole graph are known before the kernel starts.
        return isinstance(need, Node) or need in self.level_of


def _bound_names(region: Region) -> list[str]:
    return [str(e.attr("name")) for e in region.effects if e.op == "bind"]


def _postorder(root: Node, known: dict[Node, Needs]) -> Iterable[Node]:
    pending: list[tuple[Node, bool]] = [(root, False)]
    while pending:
        node, ready = pending.pop()
        if node in known:
            continue
        if ready:
            yield node
        else:
            pending.append((node, True))
            pending.extend((arg, False) for arg in node.args)


def symbol_names(node: Node) -> Iterable[str]:
    """The names of the symbols in a node's type and attributes, repeats included."""
    for element in node.type.elements if isinstance(node.type, TupleType) else (node.type,):
        yield from (s.name for s in element.symbols())
    for _, value in node.attrs:
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Expression):
                yield from (s.name for s in symbols_in(item))
