"""Tiles that change their shape: blocks seen otherwise where that is possible, else gathered."""

from dataclasses import replace
from math import prod

from banyan.compiler.ir.attributes import integer
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, strides
from banyan.compiler.targets.triton.layouts import Layout, axis_strides, places, reshaped
from banyan.compiler.targets.triton.scope import Scope, block_shape, spread
from banyan.compiler.targets.triton.values import Value

Shape = tuple[Dim, ...]


def expand(scope: Scope, value: Value, rank: int) -> Value:
    """Missing leading dims added; they and those of size 1 hold one value all along."""
    missing = rank - len(value.layout)
    layout = ((),) * missing + value.layout
    if not value.is_block or not missing:
        return replace(value, layout=layout)
    dims = ", ".join(["None"] * missing + [":"] * len(value.layout))
    return scope.keep(Value(f"{value.text}[{dims}]", value.kind, layout, value.bounds))


def permute(scope: Scope, value: Value, order: tuple[int, ...]) -> Value:
    """Dims in another order."""
    layout = tuple(value.layout[axis] for axis in order)
    if not value.is_block:
        return replace(value, layout=layout)
    text = f"tl.permute({value.text}, {list(order)})"
    return scope.keep(Value(text, value.kind, layout, value.bounds))


def reshape(scope: Scope, value: Value, source: Shape, target: Shape) -> Value:
    """The same elements as a tile of another shape."""
    if not value.is_block:
        return replace(value, layout=((),) * len(target))
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
    for value in values:
        together = tuple(a or b for a, b in zip(together, value.layout, strict=True))
        found.append(relaid(scope, value, shape, together))
    return found, together


def relaid(scope: Scope, value: Value, shape: Shape, layout: Layout) -> Value:
    """The value laid as `layout` says, gathered if need be; dims without axes stay without."""
    if all(own in ((), new) for own, new in zip(value.layout, layout, strict=True)):
        return value
    return gathered(scope, filled(scope, value, shape), (shape, shape), layout)


def cut(scope: Scope, node: Node) -> Value:
    """Part of one axis of a tile, which the chip gathers: blocks cannot be cut."""
    (source,), axis = node.args, integer(node, "axis")
    value = scope.values[source]
    start, step = integer(node, "start"), integer(node, "step")
    if not value.is_block:
        return value
    apart = list(strides(source.shape))
    first = start * apart[axis]
    apart[axis] = step * apart[axis]
    value = filled(scope, value, source.shape)
    kept = scope.layout(node.shape)
    return gathered(scope, value, (source.shape, node.shape), kept, (first, tuple(apart)))


def gathered(
    scope: Scope,
    value: Value,
    shapes: tuple[Shape, Shape],
    layout: Layout,
    places_in_source: tuple[Dim, Shape] | None = None,
) -> Value:
    """Any reshape between any layouts, element by element; for shapes that are no powers of two.

    `places_in_source` says where the first element comes from and how far apart the next ones of
    each axis are, where not all elements are taken in order.
    """
    source, target = shapes
    first, apart = places_in_source or (0, strides(target))
    parts = [scope.size(first).text] if first != 0 else []
    for position, (axes, stride) in enumerate(zip(layout, apart, strict=True)):
        if axes:
            part = f"{scope.index(axes)} * {scope.size(stride).text}"
            parts.append(spread(f"({part})", position, len(layout)))
    flat = scope.name("i")
    scope.lines.append(f"{flat} = {' + '.join(parts) or '0'}")
    places_after, terms = 1, []
    for axes, after in reversed(list(zip(value.layout, strides(source), strict=True))):
        for axis, stride in reversed(list(zip(axes, axis_strides(axes), strict=True))):
            step, wide = scope.size(after * stride).text, scope.size(axis.size).text
            terms.append(f"{flat} // {step} % {wide} * {places_after}")
            places_after *= axis.padded
    mask = scope.mask(layout)
    place = " + ".join(terms) or "0"
    if mask:
        place = f"tl.where({mask}, {place}, 0)"
    where = scope.keep(Value(place, "int32", layout))
    line = f"tl.reshape({value.text}, [{places_after}])"
    asked = f"tl.reshape({where.text}, [{prod(map(places, layout))}])"
    text = f"tl.reshape(tl.gather({line}, {asked}, 0), {block_shape(layout)})"
    return scope.keep(Value(text, value.kind, layout, value.bounds))
