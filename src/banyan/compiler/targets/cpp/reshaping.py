"""Where an element of a reshaped tile lies in the tile before."""

from banyan.compiler.ir.symbols import Dim
from banyan.compiler.targets.cpp.indices import UNBOUNDED, Index, variable_index
from banyan.compiler.targets.cpp.nest import Nest
from banyan.compiler.targets.cpp.scope import Scope
from banyan.foundation.errors import CompilationFailed

Shape = tuple[Dim, ...]
Indices = tuple[Index, ...]


def reshaped_indices(
    scope: Scope, nest: Nest, shape: Shape, source: Shape, indices: Indices
) -> Indices:
    """The indices in a tile of shape `source` of the element at `indices` of its reshape `shape`.

    Raises:
        Reshaped: with other loops no division would be left.
    """
    found: list[Index] = []
    for group, source_group in _groups(shape, source):
        sizes = tuple(shape[i] for i in group)
        linear = scope.number(sizes, [indices[i] for i in group])
        found += _unfold(scope, nest, tuple(source[i] for i in source_group), linear)
    return tuple(found)


def _groups(left: Shape, right: Shape) -> list[tuple[range, range]]:
    """Pair the shortest runs of dims with equal products, from the front."""
    groups = []
    i = j = 0
    while i < len(left) or j < len(right):
        first_i, first_j = i, j
        product_i: Dim = 1
        product_j: Dim = 1
        while i == first_i or j == first_j or product_i != product_j:
            take_left = j == len(right) or (i < len(left) and _is_smaller(product_i, product_j))
            if take_left and i < len(left):
                product_i, i = product_i * left[i], i + 1
            elif j < len(right):
                product_j, j = product_j * right[j], j + 1
            else:
                break
        groups.append((range(first_i, i), range(first_j, j)))
    return groups


def _is_smaller(left: Dim, right: Dim) -> bool:
    if isinstance(left, int) and isinstance(right, int):
        return left <= right
    # A product with fewer factors cannot be the larger of two that will become equal.
    return _size(left) <= _size(right)


def _size(dim: Dim) -> tuple[int, int]:
    if isinstance(dim, int):
        return 0, dim
    return max(len(monomial) for monomial, _ in dim.terms), max(c for _, c in dim.terms)


def _unfold(scope: Scope, nest: Nest, sizes: Shape, linear: Index) -> list[Index]:
    """Indices of each dim of a group from the element number in it."""
    found: list[Index] = []
    for position in reversed(range(len(sizes))):
        size = sizes[position]
        if size == 1:
            found.append(Index())
            continue
        if all(outer == 1 for outer in sizes[:position]):
            found.append(linear)
            linear = Index()
            continue
        exact = linear.divide(size) if isinstance(size, int) else None
        if exact is None:
            exact = _divided_at_run_time(scope, nest, linear, size)
        linear, rest = exact
        found.append(rest)
    return found[::-1]


def _divided_at_run_time(scope: Scope, nest: Nest, linear: Index, size: Dim) -> tuple[Index, Index]:
    if linear.level > nest.level:
        raise CompilationFailed("an index is used outside its loop")
    divisor = scope.dim(size)
    parts = []
    for sign in ("/", "%"):
        text = f"index_t({linear}) {sign} index_t({divisor})"
        cell = nest.recall(text) or nest.value(text, "index_t", text, linear.level)
        largest = size - 1 if isinstance(size, int) and sign == "%" else UNBOUNDED
        parts.append(variable_index(cell.text, cell.level, 0, largest))
    return parts[0], parts[1]
