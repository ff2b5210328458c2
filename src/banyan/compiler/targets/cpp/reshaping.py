"""Where an element of a reshaped tile lies in the tile before."""

from banyan.compiler.ir.symbols import Dim, matching_groups
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
    everything = [([*range(len(shape))], [*range(len(source))])]
    for group, source_group in matching_groups(shape, source) or everything:
        sizes = tuple(shape[i] for i in group)
        linear = scope.number(sizes, [indices[i] for i in group])
        found += _unfold(scope, nest, tuple(source[i] for i in source_group), linear)
    return tuple(found)


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
