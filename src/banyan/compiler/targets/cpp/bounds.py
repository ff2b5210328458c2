"""What can be proved about scalars of a kernel before it runs.

A scalar built from grid indices, sizes and constants is a polynomial. Loads and stores are clipped
only where a proof fails.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product

from banyan.compiler.ir.graph import Kernel, Node
from banyan.compiler.ir.symbols import (
    Dim,
    Expression,
    Symbol,
    lower_bound,
    substitute,
    symbol,
    symbols_in,
    upper_bound,
)
from banyan.compiler.targets.cpp.indices import Index, Limit

_MOST_CANDIDATES = 16


@dataclass(slots=True)
class Facts:
    """What is known of the scalars of one kernel; made by `kernel_facts`."""

    grid: dict[Node, Dim] = field(default_factory=dict)
    last: dict[str, Dim] = field(default_factory=dict)
    bound: dict[str, Node] = field(default_factory=dict)

    def exactly(self, node: Node) -> Dim | None:
        """The scalar as a polynomial, if it is one."""
        if node.op == "constant":
            value = node.attr("value")
            return value if isinstance(value, int) else None
        if node.op == "size":
            dim = node.attr("dim")
            return dim if isinstance(dim, int | Expression) else None
        if node.op == "cast" and not node.dtype.is_floating:
            return self.exactly(node.args[0])
        if node.op in {"add", "sub", "mul", "floordiv"}:
            return self._arithmetic(node)
        return self.grid.get(node)

    def _arithmetic(self, node: Node) -> Dim | None:
        left, right = map(self.exactly, node.args)
        if left is None or right is None:
            return None
        if node.op == "floordiv":
            return left // right if isinstance(right, int) and right > 0 else None
        if node.op == "add":
            return left + right
        return left - right if node.op == "sub" else left * right

    def at_most(self, node: Node) -> list[Dim]:
        """Polynomials that the scalar never exceeds."""
        exact = self.exactly(node)
        if exact is not None:
            return [exact]
        if node.op == "min":
            return [*self.at_most(node.args[0]), *self.at_most(node.args[1])]
        if node.op == "cast" and not node.dtype.is_floating:
            return self.at_most(node.args[0])
        return []

    def is_below(self, dim: Dim, stop: Dim) -> bool:
        """True when `dim < stop` whatever the grid indices and symbols are."""
        return any(upper_bound(self._settle(d - stop)) < 0 for d in self._unbind(dim))

    def is_natural(self, dim: Dim) -> bool:
        """True when `dim >= 0` whatever the grid indices and symbols are."""
        return lower_bound(dim) >= 0

    def is_inside(
        self, start: Node, step: Index, size: Dim, *, within: Limit | None = None
    ) -> tuple[bool, bool]:
        """Whether (start + step >= 0, start + step < size) is proved.

        `within` is what a loop that was clipped to this very dim says of its variable.
        """
        exact = self.exactly(start)
        low = exact is not None and self.is_natural(exact) and step.minimum >= 0
        if within is not None and _is_limited(step, within):
            return low, True
        top = step.largest
        return low, any(self.is_below(least + top, size) for least in self.at_most(start))

    def _unbind(self, dim: Dim) -> Iterator[Dim]:
        """`dim` with each symbol bound in the kernel replaced by one of its upper bounds."""
        names = [s.name for s in symbols_in(dim) if s.name in self.bound]
        choices = [self.at_most(self.bound[name]) for name in names]
        yield dim
        for count, chosen in enumerate(product(*choices)):
            if not names or count == _MOST_CANDIDATES:
                return
            values: dict[str, Dim] = dict(zip(names, chosen, strict=True))
            if all(_rises(dim, name) for name in names):
                yield substitute(dim, values)

    def _settle(self, dim: Dim) -> Dim:
        """`dim` with each grid index at the end of its range where `dim` is largest."""
        for name, last in self.last.items():
            if isinstance(dim, int):
                return dim
            if any(s.name == name for s in symbols_in(dim)) and _rises(dim, name):
                dim = substitute(dim, {name: last})
        return dim


def _is_limited(step: Index, limit: Limit) -> bool:
    if len(step.terms) != 1 or step.offset > 0:
        return False
    variable, coefficient = step.terms[0]
    return coefficient == 1 and variable.limit == limit


def _rises(dim: Dim, name: str) -> bool:
    """True when `dim` never falls as the symbol grows."""
    if isinstance(dim, int):
        return True
    return all(
        coefficient > 0
        and all(isinstance(atom, Symbol) or _rises(atom.numerator, name) for atom in monomial)
        for monomial, coefficient in dim.terms
        if any(s.name == name for s in symbols_in(Expression(((monomial, 1),))))
    )


def kernel_facts(kernel: Kernel, nodes: Iterable[Node]) -> Facts:
    """Collect what the grid and the `bind` nodes say; `nodes` are all of the kernel."""
    facts = Facts(bound={str(n.attr("name")): n.args[0] for n in nodes if n.op == "bind"})
    for axis, (parameter, size) in enumerate(zip(kernel.body.parameters, kernel.grid, strict=True)):
        name = f"grid {axis}"
        facts.grid[parameter] = symbol(name, 0, max(upper_bound(size) - 1, 0))
        facts.last[name] = size - 1
    return facts
