"""Loads and stores: addresses of whole blocks, and masks for what lies outside."""

from dataclasses import dataclass

from banyan.compiler.ir.access import Access, access_of
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, product, strides, upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.triton.layouts import Axes, Layout, joined, places
from banyan.compiler.targets.triton.moves import relaid
from banyan.compiler.targets.triton.scope import Scope, spread
from banyan.compiler.targets.triton.values import INTEGERS, STORED, Value
from banyan.foundation.errors import CompilationFailed

Groups = tuple[tuple[int, ...], ...]
"""For each dim of the block, the dims of the tile that it holds one after the other."""


@dataclass(frozen=True, slots=True)
class _Index:
    """Element numbers along one dim of a pointer: a scalar, or along `position` of the block.

    `is_inside` says that no element of the tile lies outside the tensor along this dim.
    """

    value: Value
    position: int | None = None
    is_inside: bool = False

    def text(self, rank: int) -> str:
        text = self.value.text
        return text if self.position is None else spread(text, self.position, rank)


def load(scope: Scope, node: Node, groups: Groups | None = None) -> Value:
    """The value of a `load`; with `groups`, its dims joined and reordered on the way."""
    access = access_of(node)
    least = scope.least if node.tensor.rank == 2 else 2
    tile = _with_lists(scope, access, scope.layout(node.shape, least))
    groups = groups or tuple((i,) for i in range(len(tile)))
    layout = tuple(joined(tuple(axis for i in group for axis in tile[i])) for group in groups)
    address, mask = _address(scope, access, (tile, groups), layout)
    text = f"tl.load({address})" if mask is None else f"tl.load({address}, mask={mask}, other=0)"
    kind = STORED[node.dtype]
    if node.dtype is DType.FLOAT8_E4M3:
        text, kind = f"from_float8({text})", "float32"
    if kind == "int64" and not scope.chip.has_int64:
        text, kind = f"{text}.to(tl.int32)", "int32"
    bounds = INTEGERS.get(kind, (0, 0))
    return scope.keep(Value(text, kind, layout, bounds, is_clear=True))


def store(scope: Scope, node: Node) -> None:
    """Write a tile; what lies outside the tensor is dropped."""
    access, stored = access_of(node), node.args[1]
    value, dtype = scope.values[stored], node.args[0].dtype
    is_eighth = dtype is DType.FLOAT8_E4M3
    kind = "float32" if is_eighth else STORED[dtype]
    fresh = scope.layout(stored.shape)
    layout = tuple(own or new for own, new in zip(value.layout, fresh, strict=True))
    layout = _with_lists(scope, access, layout)
    value = relaid(scope, value, stored.shape, layout)
    groups = tuple((i,) for i in range(len(layout)))
    address, mask = _address(scope, access, (layout, groups), layout)
    text = value.text if value.kind == kind else value.wide.as_kind(kind).text
    if value.number is not None:
        text = f"tl.full([], {text}, tl.{kind})"
    if is_eighth:
        text = f"to_float8({text})"
    masked = "" if mask is None else f", mask={mask}"
    scope.lines.append(f"tl.store({address}, {text}{masked})")


def _with_lists(scope: Scope, access: Access, layout: Layout) -> Layout:
    """The layout with that of the lists of indices, which come first in the tile."""
    if not access.gathered:
        return layout
    if any(index.tensor.rank != 1 for index in access.gathered):
        raise CompilationFailed("the Triton target gathers along lists of one dim only")
    known = [scope.values[index].layout[0] for index in access.gathered]
    return (next((axes for axes in known if axes), layout[0]), *layout[1:])


def _address(
    scope: Scope, access: Access, place: tuple[Layout, Groups], layout: Layout
) -> tuple[str, str | None]:
    """The address of every element of a block, and where it may be touched."""
    rank, shape = len(layout), access.pointer.shape
    is_small = scope.fits(product(shape))
    terms, tests = [], []
    sizes = zip(strides(shape), shape, strict=True)
    for index, (apart, dim) in zip(_indices(scope, access, place), sizes, strict=True):
        stride = scope.size(apart)
        part = index.text(rank) if is_small else f"tl.cast({index.text(rank)}, tl.int64)"
        if index.value.number != 0:
            inner = f"({part})" if " " in part else part
            terms.append(part if stride.number == 1 else f"{inner} * {stride.text}")
        tests += _tests(scope, index, dim, layout)
    inside = scope.mask(layout)
    if inside is not None:
        tests.append(inside)
    name = scope.pointers[access.pointer]
    address = f"{name} + ({' + '.join(terms)})" if terms else name
    return address, " & ".join(tests) or None


def _indices(scope: Scope, access: Access, place: tuple[Layout, Groups]) -> list[_Index]:
    """The element numbers along every dim of the pointer."""
    next_dim = 1 if access.gathered else 0
    found = []
    for kind, index, size, dim in access.dims:
        value = scope.values[index]
        if kind == "at":
            is_inside = scope.limits.get(index) == dim
            found.append(_Index(scope.narrowed(value), None, is_inside))
        elif kind == "gather":
            found.append(_listed(scope, value, index.shape, place))
        else:
            found.append(_span(scope, value, (size, dim), place, next_dim))
            next_dim += 1
    return found


def _listed(
    scope: Scope, value: Value, shape: tuple[Dim, ...], place: tuple[Layout, Groups]
) -> _Index:
    """A list of element numbers: the first dim of the tile."""
    tile, _ = place
    layout = tile[:1]
    value = relaid(scope, value, shape, layout)
    if not layout[0]:
        return _Index(scope.narrowed(value))
    value = scope.keep(scope.narrowed(scope.grown(value, layout)))
    position, axes, ahead = _position(place, 0)
    before, own = places(axes[:ahead]), len(layout[0])
    if own < len(axes):
        block = [before, places(layout[0]), places(axes[ahead + own :])]
        text = f"tl.broadcast_to({value.text}[None, :, None], {block})"
        text = f"tl.reshape({text}, [{places(axes)}])"
        value = scope.keep(Value(text, "int32", (axes,), value.bounds))
    return _Index(value, position)


def _position(place: tuple[Layout, Groups], dim: int) -> tuple[int, Axes, int]:
    """The dim of the block that holds `dim` of the tile, its axes, and how many come before."""
    tile, groups = place
    position = next(i for i, group in enumerate(groups) if dim in group)
    group = groups[position]
    axes = tuple(axis for i in group for axis in tile[i])
    return position, axes, sum(len(tile[i]) for i in group[: group.index(dim)])


def _span(
    scope: Scope, start: Value, sizes: tuple[Dim, Dim], place: tuple[Layout, Groups], dim: int
) -> _Index:
    """Neighbours from `start`, along dim `dim` of the tile."""
    (size, whole), (tile, _) = sizes, place
    is_inside = start.number == 0 and size == whole
    start = scope.narrowed(start)
    if not tile[dim]:
        return _Index(start, None, is_inside)
    position, axes, ahead = _position(place, dim)
    own = scope.index(axes, ahead, len(tile[dim]))
    text = own if start.number == 0 else f"{start.text} + {own}"
    bounds = (start.bounds[0], start.bounds[1] + upper_bound(size) - 1)
    return _Index(scope.keep(Value(text, "int32", (axes,), bounds)), position, is_inside)


def _tests(scope: Scope, index: _Index, dim: Dim, layout: Layout) -> list[str]:
    """What must be asked about element numbers along a dim before memory is touched."""
    low, high = index.value.bounds
    size, text = scope.size(dim), index.text(len(layout))
    if scope.chip.is_interpreted and index.position is None and any(layout):
        # There a flag that grows from a scalar becomes an integer, which no access takes as mask.
        text = f"tl.full({[1] * len(layout)}, {text}, tl.int32)"
    tests = [f"({text} >= 0)"] if low < 0 and not index.is_inside else []
    if high >= size.bounds[0] and not index.is_inside:
        tests.append(f"({text} < {size.text})")
    return tests
