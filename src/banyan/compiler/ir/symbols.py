"""Sizes that may depend on numbers known only when a program runs.

A `Dim` is an `int` or an `Expression`: a polynomial over symbols with integer coefficients, in
normal form, so that two equal polynomials are equal objects by value. Owns the arithmetic and
the bounds of sizes; knows nothing of tensors.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from banyan.foundation.errors import GraphError


@dataclass(frozen=True, slots=True, order=True)
class Symbol:
    """A named size with inclusive bounds."""

    name: str
    minimum: int = 1
    maximum: int = 2**31 - 1

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class Quotient:
    """Floor division of an expression by a positive constant that does not divide it evenly."""

    numerator: "Expression"
    denominator: int

    def __str__(self) -> str:
        return f"(({self.numerator}) // {self.denominator})"


Atom: TypeAlias = "Symbol | Quotient"
Monomial: TypeAlias = "tuple[Atom, ...]"


@dataclass(frozen=True, slots=True, order=True)
class Expression:
    """A sum of products: `terms` pairs each product of atoms with its non-zero coefficient.

    The empty product is the constant term. Build with `+ - * //`, which return an `int` when
    nothing symbolic is left.
    """

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: "Dim") -> "Dim":
        return _collect([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> "Dim":
        return self * -1

    def __sub__(self, other: "Dim") -> "Dim":
        return self + (-1 * other)

    def __rsub__(self, other: "Dim") -> "Dim":
        return other + (-1 * self)

    def __mul__(self, other: "Dim") -> "Dim":
        return _collect(
            [(_sorted(left + right), a * b) for left, a in self.terms for right, b in _terms(other)]
        )

    __rmul__ = __mul__

    def __floordiv__(self, denominator: int) -> "Dim":
        """Floor division by a positive constant; whole multiples leave the quotient."""
        if denominator == 1:
            return self
        whole = [(m, c // denominator) for m, c in self.terms if c % denominator == 0]
        rest = _collect([(m, c) for m, c in self.terms if c % denominator])
        if isinstance(rest, int):
            return _collect([*whole, ((), rest // denominator)])
        return _collect([*whole, ((Quotient(rest, denominator),), 1)])

    def __str__(self) -> str:
        return " + ".join(_term_text(monomial, c) for monomial, c in self.terms)


Dim: TypeAlias = int | Expression


def symbol(name: str, minimum: int = 1, maximum: int = 2**31 - 1) -> Expression:
    """The expression that is just the symbol `name` in [minimum, maximum]."""
    return Expression(((((Symbol(name, minimum, maximum)),), 1),))


def product(dims: tuple[Dim, ...]) -> Dim:
    """The product of sizes; 1 for none."""
    result: Dim = 1
    for dim in dims:
        result = result * dim
    return result


def fixed(dim: Dim) -> int:
    """A size that must not depend on symbols.

    Raises:
        GraphError: it does.
    """
    if not isinstance(dim, int):
        raise GraphError(f"the size {dim} must be a plain number here")
    return dim


def strides(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """How many elements of a row-major tensor lie between neighbours along each dim."""
    return tuple(product(shape[i + 1 :]) for i in range(len(shape)))


def matching_groups(
    left: tuple[Dim, ...], right: tuple[Dim, ...]
) -> list[tuple[list[int], list[int]]] | None:
    """Cut two shapes of equal element count into the finest runs with equal products.

    None when symbolic sizes hide where the borders are.
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(left) or j < len(right):
        ours, theirs = [i] if i < len(left) else [], [j] if j < len(right) else []
        i, j = i + len(ours), j + len(theirs)
        while True:
            a = product(tuple(left[k] for k in ours))
            b = product(tuple(right[k] for k in theirs))
            if a == b:
                break
            if upper_bound(a) < upper_bound(b) and i < len(left):
                ours.append(i)
                i += 1
            elif j < len(right):
                theirs.append(j)
                j += 1
            else:
                return None
        groups.append((ours, theirs))
    return groups


def common_shape(shapes: Sequence[tuple[Dim, ...]]) -> tuple[Dim, ...]:
    """The shape that all grow to together, as in NumPy."""
    rank = max(len(shape) for shape in shapes)
    aligned = [(*(1,) * (rank - len(shape)), *shape) for shape in shapes]
    return tuple(next((d for d in dims if d != 1), 1) for dims in zip(*aligned, strict=True))


def ceil_divide(dim: Dim, denominator: int) -> Dim:
    """Division that rounds up."""
    return (dim + (denominator - 1)) // denominator


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """The number a size has when each symbol has the given value.

    Raises:
        KeyError: a symbol has no value.
    """
    if isinstance(dim, int):
        return dim
    return sum(c * prod(_atom_value(atom, values) for atom in m) for m, c in dim.terms)


def upper_bound(dim: Dim) -> int:
    """The largest value a size can have, from the bounds of its symbols."""
    return _bound(dim, largest=True)


def lower_bound(dim: Dim) -> int:
    """The smallest value a size can have, from the bounds of its symbols."""
    return _bound(dim, largest=False)


def symbols_in(dim: Dim) -> Iterator[Symbol]:
    """Every symbol a size depends on, repeats included."""
    if isinstance(dim, int):
        return
    for monomial, _ in dim.terms:
        for atom in monomial:
            if isinstance(atom, Symbol):
                yield atom
            else:
                yield from symbols_in(atom.numerator)


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """Replace symbols by sizes; symbols without an entry stay."""
    if isinstance(dim, int):
        return dim
    result: Dim = 0
    for monomial, coefficient in dim.terms:
        term: Dim = coefficient
        for atom in monomial:
            term = term * _substitute_atom(atom, values)
        result = result + term
    return result


def _substitute_atom(atom: Atom, values: Mapping[str, Dim]) -> Dim:
    if isinstance(atom, Symbol):
        return values.get(atom.name, Expression((((atom,), 1),)))
    return substitute(atom.numerator, values) // atom.denominator


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(dim, int):
        return (((), dim),)
    return dim.terms


def _atom_key(atom: Atom) -> tuple[int, str]:
    return (0 if isinstance(atom, Symbol) else 1, str(atom))


def _sorted(monomial: Monomial) -> Monomial:
    return tuple(sorted(monomial, key=_atom_key))


def _collect(terms: list[tuple[Monomial, int]]) -> Dim:
    totals: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        totals[monomial] = totals.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in totals.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    # Longer products first, the constant last: reads as people write polynomials.
    kept.sort(key=lambda term: (-len(term[0]), [_atom_key(a) for a in term[0]]))
    return Expression(tuple(kept))


def _atom_value(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        return values[atom.name]
    return evaluate(atom.numerator, values) // atom.denominator


def _bound(dim: Dim, *, largest: bool) -> int:
    if isinstance(dim, int):
        return dim
    total = 0
    for monomial, coefficient in dim.terms:
        upward = largest == (coefficient > 0)
        total += coefficient * prod(_atom_bound(atom, largest=upward) for atom in monomial)
    return total


def _atom_bound(atom: Atom, *, largest: bool) -> int:
    if isinstance(atom, Symbol):
        return atom.maximum if largest else atom.minimum
    return _bound(atom.numerator, largest=largest) // atom.denominator


def _term_text(monomial: Monomial, coefficient: int) -> str:
    factors = [str(atom) for atom in monomial]
    if not factors:
        return str(coefficient)
    if coefficient != 1:
        factors.insert(0, str(coefficient))
    return " * ".join(factors)
