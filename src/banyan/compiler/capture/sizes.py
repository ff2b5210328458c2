"""From the symbolic sizes of torch.export (SymPy) to `Dim`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import sympy  # type: ignore[import-untyped]
import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._sympy.functions import CleanDiv, FloorDiv, Mod, PythonMod

from banyan.compiler.ir.symbols import Dim, Expression, product, symbol
from banyan.foundation.errors import GraphError

LARGEST_SIZE = 2**31 - 1

Size: TypeAlias = "int | torch.SymInt"


class SizeTable:
    """What each SymPy symbol of one captured program means."""

    def __init__(self, symbols: Mapping[sympy.Symbol, Expression]) -> None:
        self._symbols: dict[Any, Expression] = dict(symbols)

    def dim(self, size: Size) -> Dim:
        """One size of a fake tensor.

        Raises:
            GraphError: the size is no polynomial with floor divisions.
        """
        if isinstance(size, int):
            return size
        return self.convert(size.node.expr)

    def shape(self, sizes: Sequence[Size]) -> tuple[Dim, ...]:
        """The shape of a fake tensor."""
        return tuple(self.dim(size) for size in sizes)

    def convert(self, expression: Any) -> Dim:
        """One SymPy expression.

        Raises:
            GraphError: it is no polynomial with floor divisions.
        """
        if expression.is_Integer:
            return int(expression)
        if expression in self._symbols:
            return self._symbols[expression]
        parts: list[Dim] = [self.convert(part) for part in expression.args]
        if isinstance(expression, sympy.Add):
            total: Dim = 0
            for part in parts:
                total = total + part
            return total
        if isinstance(expression, sympy.Mul):
            return product(tuple(parts))
        if isinstance(expression, sympy.Pow) and isinstance(parts[1], int):
            return self.convert(sympy.Mul(*[expression.args[0]] * parts[1], evaluate=False))
        return _quotient(expression, parts)


def _quotient(expression: Any, parts: list[Dim]) -> Dim:
    if len(parts) == 2 and isinstance(parts[1], int):
        quotient = parts[0] // parts[1]
        if isinstance(expression, FloorDiv | CleanDiv):
            return quotient
        if isinstance(expression, Mod | PythonMod):
            return parts[0] - quotient * parts[1]
    if free_unbacked_symbols(expression):
        raise GraphError(
            "the size of its result depends on the values of a tensor; use torch.where or a mask of"
            " fixed size, or torch.compile(module, backend='banyan'), which leaves it to PyTorch"
        )
    raise GraphError(f"the size {expression} is outside what sizes can say: use + - * // constant")


def read_symbols(
    tensors: Sequence[torch.Tensor], requests: Sequence[Any], ranges: Mapping[Any, Any]
) -> SizeTable:
    """Name the symbols of captured inputs after the caller's `torch.export.Dim` objects.

    Args:
        tensors: fake tensors of the inputs, one for each entry of `requests`.
        requests: what the caller asked for each: a mapping or sequence of dims, or None.
        ranges: the bounds torch.export found for each SymPy symbol.
    """
    found: dict[sympy.Symbol, Expression] = {}

    def add(atom: sympy.Symbol, name: str | None) -> None:
        found[atom] = symbol(name or str(atom), *_bounds(ranges.get(atom)))

    named: list[tuple[Any, str | None]] = [
        (size, _requested_name(request, axis))
        for tensor, request in zip(tensors, requests, strict=True)
        for axis, size in enumerate(tensor.shape)
    ]
    sizes = [(size.node.expr, name) for size, name in named if isinstance(size, torch.SymInt)]
    for expression, name in sizes:
        if isinstance(expression, sympy.Symbol) and (name or expression not in found):
            add(expression, name)
    for expression, name in sizes:
        # A size like 8 * chunks, whose symbol is no size of its own.
        for atom in expression.free_symbols - set(found):
            add(atom, name)
    return SizeTable(found)


def _requested_name(request: Any, axis: int) -> str | None:
    if isinstance(request, Mapping):
        entry = request.get(axis)
    elif isinstance(request, list | tuple):
        entry = request[axis]
    else:
        return None
    root = getattr(entry, "root", entry)  # of a size like 8 * chunks, chunks
    return root.__name__ if isinstance(root, torch.export.Dim) else None


def _bounds(value_range: Any) -> tuple[int, int]:
    if value_range is None:
        return 0, LARGEST_SIZE
    upper = value_range.upper
    lower = int(value_range.lower) if value_range.lower.is_Integer else 0
    return lower, min(LARGEST_SIZE, int(upper)) if upper.is_Integer else LARGEST_SIZE
