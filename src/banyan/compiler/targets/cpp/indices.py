"""Index arithmetic of printed loops: sums of loop variables with known ranges.

A reshape divides indices. Where the ranges prove it, division leaves no trace in the text; where a
loop has to be split or cut first, the request is raised and the nest is printed again that way.
"""

from dataclasses import dataclass
from typing import TypeAlias

from banyan.compiler.ir.symbols import Dim

UNBOUNDED = 2**62
"""Larger than any index: the bound of a number nothing is known about."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A fact about a variable: `start + variable < stop`; `start` is the text of a number."""

    start: str
    stop: Dim


@dataclass(frozen=True, slots=True)
class Variable:
    """A loop variable, or any number with a name in the printed text.

    Attributes:
        text: how it is written.
        level: 0 outside the nest, n inside its n-th loop.
        minimum: inclusive bound.
        maximum: inclusive bound.
        axis: the path of the loop it counts, None for other numbers.
        extent: steps of that loop where nothing clips it, None otherwise.
        limit: what the clipping of a store says about it.
    """

    text: str
    level: int
    minimum: int = 0
    maximum: int = UNBOUNDED
    axis: str | None = None
    extent: Dim | None = None
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """`sum(coefficient * variable) + offset`."""

    terms: tuple[tuple[Variable, int], ...] = ()
    offset: int = 0

    @property
    def level(self) -> int:
        """The deepest loop it depends on."""
        return max((variable.level for variable, _ in self.terms), default=0)

    @property
    def minimum(self) -> int:
        """Inclusive lower bound."""
        return self.offset + sum(c * (v.minimum if c > 0 else v.maximum) for v, c in self.terms)

    @property
    def maximum(self) -> int:
        """Inclusive upper bound."""
        return self.offset + sum(c * (v.maximum if c > 0 else v.minimum) for v, c in self.terms)

    @property
    def largest(self) -> Dim:
        """The upper bound, in symbols where a loop's extent is symbolic."""
        total: Dim = self.offset
        for variable, coefficient in self.terms:
            if coefficient < 0:
                total = total + coefficient * variable.minimum
            elif variable.extent is not None:
                total = total + coefficient * (variable.extent - 1)
            else:
                total = total + coefficient * variable.maximum
        return total

    def __add__(self, other: "Index | int") -> "Index":
        if isinstance(other, int):
            return Index(self.terms, self.offset + other)
        totals = dict(self.terms)
        for variable, coefficient in other.terms:
            totals[variable] = totals.get(variable, 0) + coefficient
        terms = tuple((v, c) for v, c in totals.items() if c)
        return Index(terms, self.offset + other.offset)

    def __mul__(self, factor: int) -> "Index":
        terms = tuple((v, c * factor) for v, c in self.terms if factor)
        return Index(terms, self.offset * factor)

    def divide(self, divisor: int) -> "tuple[Index, Index] | None":
        """Quotient and remainder by a positive constant; None where only the program can tell.

        Raises:
            Reshaped: splitting or cutting a loop would make the division exact.
        """
        whole = tuple((v, c // divisor) for v, c in self.terms if c % divisor == 0)
        rest = Index(tuple((v, c) for v, c in self.terms if c % divisor), self.offset % divisor)
        if rest.minimum >= 0 and rest.maximum < divisor:
            return Index(whole, self.offset // divisor), rest
        _ask_for_split(rest, divisor)
        return None

    def ask_for_cut(self, boundary: int) -> None:
        """Ask for a loop cut where the index crosses `boundary`, if one loop alone decides that.

        Raises:
            Reshaped: cutting a loop puts the index on one side of the boundary.
        """
        if len(self.terms) == 1:
            variable, coefficient = self.terms[0]
            if coefficient > 0:
                _cut(variable, -((self.offset - boundary) // coefficient))

    def __str__(self) -> str:
        parts = [v.text if c == 1 else f"{c} * {v.text}" for v, c in self.terms]
        if not parts:
            return str(self.offset)
        sign = "-" if self.offset < 0 else "+"
        tail = f" {sign} {abs(self.offset)}" if self.offset else ""
        return " + ".join(parts) + tail


@dataclass(frozen=True, slots=True)
class Split:
    """Print the loop `axis` as two, the inner one of `factor` steps."""

    axis: str
    factor: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Print the loop `axis` as two after each other, the second from `point` on."""

    axis: str
    point: int


Change: TypeAlias = Split | Cut


class Reshaped(Exception):
    """The nest must be printed again with `change`."""

    def __init__(self, change: Change) -> None:
        super().__init__(str(change))
        self.change = change


def variable_index(
    text: str, level: int = 0, minimum: int = -UNBOUNDED, maximum: int = UNBOUNDED
) -> Index:
    """The index that is just one number with a name."""
    return Index(((Variable(text, level, minimum, maximum), 1),))


def _ask_for_split(rest: Index, divisor: int) -> None:
    if not rest.terms:
        return
    variable, coefficient = max(rest.terms, key=lambda term: term[1] * (term[0].maximum + 1))
    if variable.axis is None or coefficient < 0:
        return
    factor = divisor // coefficient if divisor % coefficient == 0 else 0
    if factor > 1 and variable.extent is not None and _is_split_by(variable.extent, factor):
        raise Reshaped(Split(variable.axis, factor))
    if len(rest.terms) == 1 and coefficient == 1:
        point = (variable.minimum + rest.offset) // divisor * divisor + divisor - rest.offset
        _cut(variable, point)


def _is_split_by(extent: Dim, factor: int) -> bool:
    outer = extent // factor
    return outer * factor == extent and outer != 1


def _cut(variable: Variable, point: int) -> None:
    if variable.axis is not None and variable.minimum < point <= variable.maximum < UNBOUNDED:
        raise Reshaped(Cut(variable.axis, point))
