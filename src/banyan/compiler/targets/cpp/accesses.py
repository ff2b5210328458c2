"""Addresses of `load` and `store`, and the checks that keep them inside the tensor."""

from dataclasses import dataclass

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, Expression
from banyan.compiler.targets.cpp.bounds import Facts
from banyan.compiler.targets.cpp.expressions import literal
from banyan.compiler.targets.cpp.indices import (
    UNBOUNDED,
    Index,
    Variable,
    add,
    constant_index,
    largest,
    scale,
)
from banyan.compiler.targets.cpp.scope import Scalar, Scope
from banyan.foundation.errors import CompilationFailed


@dataclass(frozen=True, slots=True)
class Position:
    """Where along one dim of a pointer an element lies: `start + step`.

    `start` is the scalar node given to the access (None for a gathered position).
    """

    start: Node | None
    index: Index
    step: Index


@dataclass(frozen=True, slots=True)
class Access:
    """The parts of a load or store: its pointer, and for each dim a kind, an index and a size."""

    pointer: Node
    kinds: tuple[str, ...]
    indices: tuple[Node, ...]
    sizes: tuple[Dim, ...]

    @property
    def gather_rank(self) -> int:
        """How many leading dims of the tile come from gathered indices."""
        ranks = (
            len(i.shape) for k, i in zip(self.kinds, self.indices, strict=True) if k == "gather"
        )
        return next(ranks, 0)


def access_of(node: Node) -> Access:
    """Read the attributes of a load or store."""
    first = 1 if node.op == "load" else 2
    kinds, sizes = node.attr("index"), node.attr("sizes")
    if not isinstance(kinds, tuple) or not isinstance(sizes, tuple):
        raise CompilationFailed(f"{node.op} needs tuples of kinds and sizes")
    dims = tuple(s if isinstance(s, int | Expression) else 1 for s in sizes)
    return Access(node.args[0], tuple(map(str, kinds)), node.args[first:], dims)


def scalar_text(scope: Scope, node: Node) -> str:
    """The text of a scalar node."""
    if node.op == "constant":
        value = node.attr("value")
        return literal(value if isinstance(value, int | float) else 0, node.dtype)
    held = scope.values.get(node)
    if not isinstance(held, Scalar):
        raise CompilationFailed(f"the scalar {node.op} is used before it is printed")
    return held.text


def scalar_index(scope: Scope, node: Node) -> Index:
    """A scalar as an index."""
    exact = scope.facts.exactly(node)
    if isinstance(exact, int):
        return constant_index(exact)
    variable = Variable(scalar_text(scope, node), 0, -UNBOUNDED, UNBOUNDED)
    return Index(((variable, 1),))


def pointer_strides(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Row-major strides of a whole tensor."""
    strides: list[Dim] = [1] * len(shape)
    for i in reversed(range(len(shape) - 1)):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)


def times(scope: Scope, index: Index, stride: Dim) -> Index:
    """An index times a stride that may be symbolic."""
    if isinstance(stride, int):
        return scale(index, stride)
    if not index.terms and index.offset == 0:
        return index
    text = f"({index}) * {scope.dim(stride)}"
    return Index(((Variable(text, index.level, -UNBOUNDED, UNBOUNDED), 1),))


def offset_of(scope: Scope, shape: tuple[Dim, ...], positions: list[Index]) -> Index:
    """The element offset of a position in a whole tensor."""
    total = Index()
    for position, stride in zip(positions, pointer_strides(shape), strict=True):
        total = add(total, times(scope, position, stride))
    return total


def is_inside(facts: Facts, position: Position, size: Dim, start_text: str) -> tuple[bool, bool]:
    """Whether (position >= 0, position < size) is proved."""
    if position.start is None:
        return False, False
    exact = facts.exactly(position.start)
    low = exact is not None and facts.is_natural(exact) and position.step.minimum >= 0
    if _is_limited(position.step, start_text, size):
        return low, True
    candidates = facts.at_most(position.start)
    top = largest(position.step)
    return low, any(facts.is_below(candidate + top, size) for candidate in candidates)


def _is_limited(step: Index, start_text: str, size: Dim) -> bool:
    """True when the loop was clipped to this very dim."""
    if len(step.terms) != 1 or step.offset > 0:
        return False
    variable, coefficient = step.terms[0]
    limit = variable.limit
    return (
        coefficient == 1 and limit is not None and limit.start == start_text and limit.stop == size
    )


def check_text(index: Index, size_text: str, *, low: bool, high: bool) -> str:
    """The condition still to be checked at run time; at least one of the two is unproved."""
    if low:
        return f"{index} < {size_text}"
    if high:
        return f"{index} >= 0"
    return f"uint64_t({index}) < uint64_t({size_text})"
