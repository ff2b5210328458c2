"""From the shapes of given arrays to the values of a graph's symbols."""

from collections.abc import Iterable, Mapping

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
    for name, value_type in types.items():
        shape = shapes[name]
        if len(shape) != value_type.rank:
            raise InputError(f"{name} has shape {shape}; {value_type.rank} dims are needed")
        for dim, size in zip(value_type.shape, shape, strict=True):
            found = _single_symbol(dim)
            if found is not None:
                _assign(values, found, size, name)
    for name, value_type in types.items():
        for dim, size in zip(value_type.shape, shapes[name], strict=True):
            wanted = evaluate(dim, values) if _is_known(dim, values) else size
            if wanted != size:
                raise InputError(f"{name} has shape {shapes[name]}; a dim of {wanted} is {size}")
    return values


def _single_symbol(dim: Dim) -> Symbol | None:
    if isinstance(dim, Expression) and len(dim.terms) == 1:
        (monomial, coefficient) = dim.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0]
    return None


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


def unbound_symbols(dims: Iterable[Dim], values: Mapping[str, int]) -> list[str]:
    """Names of symbols without a value, in order of appearance."""
    names = (symbol.name for dim in dims for symbol in symbols_in(dim))
    return [name for name in dict.fromkeys(names) if name not in values]
