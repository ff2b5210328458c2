"""Are two graphs the same, node for node?"""

from banyan.compiler.ir.graph import Graph, Kernel, Node, Region


def same_graph(left: Graph, right: Graph) -> bool:
    """True when both have equal names, inputs, outputs and nodes in the same arrangement."""
    pairs = _Pairs()
    if left.name != right.name or len(left.outputs) != len(right.outputs):
        return False
    outputs = zip(left.outputs, right.outputs, strict=True)
    if any((a.name, a.updates) != (b.name, b.updates) for a, b in outputs):
        return False
    roots_left = (*left.inputs, *(o.node for o in left.outputs))
    roots_right = (*right.inputs, *(o.node for o in right.outputs))
    return pairs.all_same(roots_left, roots_right)


class _Pairs:
    """Which node of the left stands for which of the right, both ways."""

    def __init__(self) -> None:
        self._match: dict[Node, Node] = {}
        self._back: dict[Node, Node] = {}

    def all_same(self, left: tuple[Node, ...], right: tuple[Node, ...]) -> bool:
        return len(left) == len(right) and all(map(self.same, left, right))

    def same(self, left: Node, right: Node) -> bool:
        pending = [(left, right)]
        while pending:
            a, b = pending.pop()
            if a in self._match or b in self._back:
                if self._match.get(a) is not b:
                    return False
                continue
            self._match[a], self._back[b] = b, a
            if (a.op, a.type, len(a.args)) != (b.op, b.type, len(b.args)):
                return False
            if not self._same_attributes(a, b):
                return False
            pending.extend(zip(a.args, b.args, strict=True))
        return True

    def _same_attributes(self, a: Node, b: Node) -> bool:
        if a.op == "parameter":
            return b.op == "parameter"
        if [key for key, _ in a.attrs] != [key for key, _ in b.attrs]:
            return False
        values = zip(a.attrs, b.attrs, strict=True)
        return all(self._same_value(x, y) for (_, x), (_, y) in values)

    def _same_value(self, x: object, y: object) -> bool:
        if isinstance(x, Region) and isinstance(y, Region):
            return self._same_region(x, y)
        if isinstance(x, Kernel) and isinstance(y, Kernel):
            named = x.name == y.name and x.grid == y.grid
            return (
                named
                and self.all_same(x.pointers, y.pointers)
                and self._same_region(x.body, y.body)
            )
        # repr tells 1 from 1.0 and True, and nan is itself.
        return type(x) is type(y) and repr(x) == repr(y)

    def _same_region(self, x: Region, y: Region) -> bool:
        return (
            self.all_same(x.parameters, y.parameters)
            and self.all_same(x.effects, y.effects)
            and self.all_same(x.results, y.results)
        )
