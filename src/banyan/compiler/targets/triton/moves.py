"""Tiles that change their shape: blocks seen otherwise where that is possible, else gathered."""

from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.targets.triton.layouts import Layout, merged, places, reshaped, strides
from banyan.compiler.targets.triton.scope import Scope, block_shape, spread
from banyan.compiler.targets.triton.values import Value

Shape = tuple[Dim, ...]


def expand(scope: Scope, value: Value, rank: int) -> Value:
    """Missing leading dims added; they and those of size 1 hold one value all along."""
    missing = rank - len(value.layout)
    layout = ((),) * missing + value.layout
    if not value.is_block or not missing:
        return Value(value.text, value.kind, layout, value.bounds, value.number)
    dims = ", ".join(["None"] * missing + [":"] * len(value.layout))
    return scope.keep(Value(f"{value.text}[{dims}]", value.kind, layout, value.bounds))


def permute(scope: Scope, value: Value, order: tuple[int, ...]) -> Value:
    """Dims in another order."""
    layout = tuple(value.layout[axis] for axis in order)
    if not value.is_block:
        return Value(value.text, value.kind, layout, value.bounds, value.number)
    text = f"tl.permute({value.text}, {list(order)})"
    return scope.keep(Value(text, value.kind, layout, value.bounds))


def reshape(scope: Scope, value: Value, source: Shape, target: Shape) -> Value:
    """The same elements as a tile of another shape."""
    if not value.is_block:
        return Value(value.text, value.kind, ((),) * len(target), value.bounds, value.number)
    value = filled(scope, value, source)
    layout = reshaped(value.layout, target)
    if layout is None:
        return gathered(scope, value, (source, target), scope.layout(target))
    text = f"tl.reshape({value.text}, {block_shape(layout)})"
    return scope.keep(Value(text, value.kind, layout, value.bounds))


def filled(scope: Scope, value: Value, shape: Shape) -> Value:
    """The value with axes for every dim of more than one element."""
    fresh = scope.layout(shape)
    layout = tuple(axes or own for axes, own in zip(value.layout, fresh, strict=True))
    return scope.grown(value, layout)


def aligned(scope: Scope, values: list[Value], shape: Shape) -> tuple[list[Value], Layout]:
    """Values of one shape with layouts that agree, and the layout of what they make together."""
    together: Layout = ((),) * len(shape)
    found = []
    for given in values:
        value = given
        pairs = list(zip(together, value.layout, strict=True))
        together = tuple(a or b for a, b in pairs)
        if any(merged(a, b) is None for a, b in pairs):
            value = gathered(scope, filled(scope, value, shape), (shape, shape), together)
        found.append(value)
    return found, together


def gathered(scope: Scope, value: Value, shapes: tuple[Shape, Shape], layout: Layout) -> Value:
    """Any reshape between any layouts, element by element; for shapes that are no powers of two."""
    source, target = shapes
    rank = len(layout)
    parts = []
    for position, (axes, stride) in enumerate(
        zip(layout, [product(target[i + 1 :]) for i in range(rank)], strict=True)
    ):
        if axes:
            part = f"{scope.index(axes)} * {scope.size(stride).text}"
            parts.append(spread(f"({part})", position, rank))
    flat = scope.name("i")
    scope.lines.append(f"{flat} = {' + '.join(parts) or '0'}")
    places_after, terms = 1, []
    after: Dim = 1
    for axes, size in reversed(list(zip(value.layout, source, strict=True))):
        for axis, stride in reversed(list(zip(axes, strides(axes), strict=True))):
            step, wide = scope.size(after * stride).text, scope.size(axis.size).text
            terms.append(f"{flat} // {step} % {wide} * {places_after}")
            places_after *= axis.padded
        after = after * size
    mask = scope.mask(layout)
    place = " + ".join(terms) or "0"
    if mask:
        place = f"tl.where({mask}, {place}, 0)"
    count = 1
    for axes in layout:
        count *= places(axes)
    where = scope.keep(Value(place, "int32", layout))
    line = f"tl.reshape({value.text}, [{places_after}])"
    asked = f"tl.reshape({where.text}, [{count}])"
    text = f"tl.reshape(tl.gather({line}, {asked}, 0), {block_shape(layout)})"
    return scope.keep(Value(text, value.kind, layout, value.bounds))
