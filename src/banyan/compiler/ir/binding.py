"""From the shapes of given arrays to the values of a graph's symbols."""

from collections.abc import Mapping

from banyan.compiler.ir.symbols import Dim, Expression, Symbol, evaluate, symbols_in
from banyan.compiler.ir.types import TensorType
from banyan.foundation.errors import InputError


def bind_symbols(
    types: Mapping[str, TensorType], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """The value of each symbol, from inputs `name -> shape`.

    Raises:
        InputError: a rank or size differs from the type, two inputs disagree about a symbol, or a
            value lies outside the symbol's bounds.
    """
    values: dict[str, int] = {}
    solvable: list[tuple[str, int, tuple[Symbol, int, int]]] = []
    for name, value_type in types.items():
        shape = shapes[name]
        if len(shape) != value_type.rank:
            raise InputError(f"{name} has shape {shape}; {value_type.rank} dims are needed")
        for dim, size in zip(value_type.shape, shape, strict=True):
            found = _linear(dim)
            if found is not None:
                solvable.append((name, size, found))
    # Dims that are just a symbol say best what it is.
    for name, size, (symbol, factor, offset) in sorted(solvable, key=lambda s: s[2][1:] != (1, 0)):
        if (factor, offset) == (1, 0) or symbol.name not in values:
            _assign(values, symbol, (size - offset) // factor, name)
    for name, value_type in types.items():
        for dim, size in zip(value_type.shape, shapes[name], strict=True):
            wanted = evaluate(dim, values) if _is_known(dim, values) else size
            if wanted != size:
                raise InputError(f"{name} has shape {shapes[name]}; a dim of {wanted} is {size}")
    return values


def _linear(dim: Dim) -> tuple[Symbol, int, int] | None:
    """Symbol, factor and offset of `factor * symbol + offset`; None for any other size."""
    if not isinstance(dim, Expression):
        return None
    terms = dict(dim.terms)
    offset = terms.pop((), 0)
    if len(terms) != 1:
        return None
    ((monomial, factor),) = terms.items()
    if len(monomial) != 1 or not isinstance(monomial[0], Symbol):
        return None
    return monomial[0], factor, offset


def _is_known(dim: Dim, values: Mapping[str, int]) -> bool:
    return all(symbol.name in values for symbol in symbols_in(dim))


def _assign(values: dict[str, int], symbol: Symbol, size: int, name: str) -> None:
    if not symbol.minimum <= size <= symbol.maximum:
        raise InputError(
            f"{name} needs {symbol.name} = {size}; this program was compiled for "
            f"{symbol.minimum} to {symbol.maximum}"
        )
    known = values.setdefault(symbol.name, size)
    if known != size:
        raise InputError(f"{name} has {symbol.name} = {size} but another input has {known}")
