"""Text that every printed language shares: operators, and the arithmetic of sizes."""

from collections.abc import Callable, Sequence

from banyan.compiler.ir.symbols import Dim, Quotient, Symbol, lower_bound

ARITHMETIC = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "and": "&",
    "or": "|",
    "xor": "^",
}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
Name = Callable[[str], str]
"""The variable of a symbol."""


def size_text(dim: Dim, name: Name, natural: str, floor: str) -> str:
    """The expression of a size.

    `natural` and `floor` are forms of a quotient: of what is never negative, and of the rest.
    """

    def atom(found: Symbol | Quotient) -> str:
        if isinstance(found, Symbol):
            return name(found.name)
        form = natural if lower_bound(found.numerator) >= 0 else floor
        return form.format(size_text(found.numerator, name, natural, floor), found.denominator)

    def monomial(atoms: Sequence[Symbol | Quotient], factor: int) -> str:
        return " * ".join([*([str(factor)] if factor != 1 or not atoms else []), *map(atom, atoms)])

    if isinstance(dim, int):
        return str(dim)
    parts = [monomial(*term) for term in dim.terms]
    return parts[0] if len(parts) == 1 else f"({' + '.join(parts)})"
