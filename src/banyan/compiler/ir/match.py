"""Patterns over nodes, and rewriting a graph by rules.

A `Pattern` says what a node must look like and names the parts to hand to the rule. A rule is a
pattern and the function below it, which gives the replacement, or None to decline:

    @rule("double negation", operation("neg", operation("neg", anything("x"))))
    def _twice(builder: Builder, root: Node, x: Node) -> Node:
        return x
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from banyan.compiler.ir.graph import Attribute, Builder, Graph, Node, Output, rebuild

Captures: TypeAlias = Mapping[str, Node]
Rewrite: TypeAlias = Callable[..., Node | None]
"""Takes the builder, the node that fits, and the captured nodes by name."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What to look for.

    Attributes:
        ops: names the node's operation may have; empty for any.
        args: patterns of the arguments, in order; None for any arguments.
        name: capture the node under this name; a name used twice must be the same node.
        attrs: attributes that must be present with these values.
        commutes: the two arguments may stand in either order.
        where: a further condition.
    """

    ops: frozenset[str] = frozenset()
    args: tuple["Pattern", ...] | None = None
    name: str | None = None
    attrs: tuple[tuple[str, Attribute], ...] = ()
    commutes: bool = False
    where: Callable[[Node], bool] | None = None

    def match(self, node: Node) -> Captures | None:
        """The captured nodes, or None when `node` does not fit."""
        return self._match(node, {})

    def _match(self, node: Node, captured: Captures) -> Captures | None:
        if not self._fits(node):
            return None
        if self.name is not None:
            if captured.get(self.name, node) is not node:
                return None
            captured = {**captured, self.name: node}
        if self.args is None:
            return captured
        found = self._match_args(node.args, captured)
        if found is None and self.commutes:
            found = self._match_args(node.args[::-1], captured)
        return found

    def _match_args(self, args: Sequence[Node], captured: Captures) -> Captures | None:
        if self.args is None or len(args) != len(self.args):
            return None
        found: Captures | None = captured
        for pattern, arg in zip(self.args, args, strict=True):
            found = None if found is None else pattern._match(arg, found)
        return found

    def _fits(self, node: Node) -> bool:
        if self.ops and node.op not in self.ops:
            return False
        present = dict(node.attrs)
        if any(key not in present or present[key] != value for key, value in self.attrs):
            return False
        return self.where is None or self.where(node)


@dataclass(frozen=True, slots=True)
class Rule:
    """A named rewrite: where `pattern` fits, `rewrite` may give a replacement of equal type."""

    name: str
    pattern: Pattern
    rewrite: Rewrite


def rule(name: str, pattern: Pattern) -> Callable[[Rewrite], Rule]:
    """Makes a rule of the function below."""
    return lambda rewrite: Rule(name, pattern, rewrite)


def anything(name: str | None = None) -> Pattern:
    """Fits every node."""
    return Pattern(name=name)


def operation(
    op: str, *args: Pattern, name: str | None = None, commutes: bool = False, **attrs: Attribute
) -> Pattern:
    """Fits one operation with these arguments."""
    return Pattern(frozenset({op}), args, name, tuple(sorted(attrs.items())), commutes)


def any_of(
    *ops: str, name: str | None = None, where: Callable[[Node], bool] | None = None
) -> Pattern:
    """Fits each of these operations, whatever its arguments."""
    return Pattern(frozenset(ops), name=name, where=where)


def fill_value(node: Node) -> float | None:
    """The number that every element is, if the node says no more than that."""
    while node.op in {"expand", "reshape"}:
        node = node.args[0]
    value = node.attr("value") if node.op == "constant" else None
    return value if isinstance(value, bool | int | float) else None


def rewrite_graph(graph: Graph, rules: Sequence[Rule], *, rounds: int = 8) -> Graph:
    """Apply the rules, first fitting first, from inputs to outputs, until nothing changes.

    At most `rounds` rules apply in a row to one node. Every node is rebuilt in a new builder, so
    equal nodes become one.
    """

    def rewrite(builder: Builder, node: Node, args: tuple[Node, ...]) -> Node:
        new = rebuild(builder, node, args)
        for _ in range(rounds):
            better = _first_fitting(builder, rules, new)
            if better is None or better is new:
                break
            new = better
        return new

    return rebuild_graph(graph, rewrite)


def _first_fitting(builder: Builder, rules: Sequence[Rule], node: Node) -> Node | None:
    for candidate in rules:
        captured = candidate.pattern.match(node)
        if captured is not None:
            better = candidate.rewrite(builder, node, **captured)
            if better is not None and better.type == node.type:
                return better
    return None


def rebuild_graph(
    graph: Graph, rewrite: Callable[[Builder, Node, tuple[Node, ...]], Node]
) -> Graph:
    """The graph with every node made anew: `rewrite` gets it, and what its arguments became."""
    builder = Builder()
    new: dict[Node, Node] = {}
    for node in graph.nodes():
        new[node] = rewrite(builder, node, tuple(new[arg] for arg in node.args))
    return Graph(
        graph.name,
        tuple(new[node] for node in graph.inputs),
        tuple(Output(o.name, new[o.node], o.updates) for o in graph.outputs),
    )
