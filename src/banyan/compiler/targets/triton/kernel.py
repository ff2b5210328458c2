"""One kernel as a Triton function: its region printed node by node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from banyan.compiler.ir.graph import Kernel, Node, Region
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.placement import place
from banyan.compiler.ir.symbols import Dim, Expression, product, upper_bound
from banyan.compiler.targets.program import KernelText
from banyan.compiler.targets.triton.accesses import load, store
from banyan.compiler.targets.triton.chips import Chip
from banyan.compiler.targets.triton.layouts import Layout, merged
from banyan.compiler.targets.triton.moves import aligned, cut, expand, permute, relaid, reshape
from banyan.compiler.targets.triton.pointwise import pointwise
from banyan.compiler.targets.triton.products import dot, unread
from banyan.compiler.targets.triton.reductions import cumsum, reduce
from banyan.compiler.targets.triton.scope import Scope
from banyan.compiler.targets.triton.values import INT64, INTEGERS, STORED, Bounds, Value, number
from banyan.foundation.errors import CompilationFailed

LEAST_PLACES_OF_DOT = 16
"""What matrix instructions ask of every dim of their operands."""

_ELEMENTS_OF_WARP = 512
"""Elements of the largest tile for each warp of a kernel without a matrix product."""

MOST_ROUNDS = 4
"""How often a loop is written until the layouts of what it carries settle."""


def print_kernel(kernel: Kernel, chip: Chip) -> KernelText:
    """Print one kernel.

    Raises:
        CompilationFailed: an operation that the Triton target has no text for.
    """
    order = place(kernel.body)
    has_product = any(node.op == "dot" for nodes in order.values() for node in nodes)
    pointers = {pointer: f"p{i}" for i, pointer in enumerate(kernel.pointers)}
    scope = Scope(chip, pointers, LEAST_PLACES_OF_DOT if has_product else 2)
    loops = upper_bound(product(kernel.grid)) > chip.largest_grid
    total = scope.size(product(kernel.grid)).text
    _grid(scope, kernel.grid, kernel.body.parameters)
    _Printer(scope, order, unread(order)).region(kernel.body)
    lines = scope.lines
    if loops:
        head = f"for item in range(tl.program_id(0), {total}, tl.num_programs(0)):"
        lines = [head, *(f"    {line}" for line in lines)]
    else:
        lines = ["item = tl.program_id(0)", *lines]
    ranges = [f"r{size} = tl.arange(0, {size})" for size in sorted(scope.ranges)]
    names = [f"p{i}" for i in range(len(kernel.pointers))]
    head = f"({', '.join([*names, *scope.symbols.values()])}):"
    # Parameters have no types, and kernels that differ in nothing else are not equal.
    types = "# " + ", ".join(STORED[pointer.dtype] for pointer in kernel.pointers)
    body = "\n".join([head, *(f"    {line}" for line in [types, *ranges, *lines])])
    hints = _hints(chip, scope.largest, has_product=has_product)
    return KernelText(body, tuple(scope.symbols), hints=hints)


def _hints(chip: Chip, largest_block: int, *, has_product: bool) -> str:
    """Options of the launch of a kernel whose largest tile has so many places."""
    if not chip.most_warps:
        return "{}"
    warps = 4 if has_product else 1
    elements = _ELEMENTS_OF_WARP * (8 if has_product else 1)
    while warps < chip.most_warps and warps * elements < largest_block:
        warps *= 2
    stages = chip.stages if has_product else 1
    hints = {"num_warps": min(warps, chip.most_warps), "num_stages": stages}
    return repr({**hints, **dict(chip.hints)})


def _grid(scope: Scope, grid: Sequence[Dim], parameters: Sequence[Node]) -> None:
    """Grid indices from the number of the program; the last axis is the fastest."""
    for axis, (parameter, size) in enumerate(zip(parameters, grid, strict=True)):
        inner = product(tuple(grid[axis + 1 :]))
        text = "item" if inner == 1 else f"item // {scope.size(inner).text}"
        if product(tuple(grid[:axis])) != 1:
            text = f"{text} % {scope.size(size).text}"
        bounds = (0, max(upper_bound(size) - 1, 0))
        value = (
            Value("0", "int32", (), (0, 0), 0) if size == 1 else Value(text, "int32", (), bounds)
        )
        scope.values[parameter] = value if text == "item" else scope.keep(value)
        scope.limits[parameter] = size


@dataclass(slots=True)
class _Printer:
    scope: Scope
    order: Mapping[Region, Sequence[Node]]
    unread: frozenset[Node]
    results: dict[Node, tuple[Value, ...]] = field(default_factory=dict)

    def region(self, region: Region) -> None:
        """Print the nodes of a region."""
        for node in self.order[region]:
            if node not in self.unread:
                self._node(node)

    def _node(self, node: Node) -> None:
        scope, attrs = self.scope, dict[str, Any](node.attrs)
        if node.op == "store":
            store(scope, node)
        elif node.op == "bind":
            name = scope.name("n")
            scope.lines.append(f"{name} = {scope.values[node.args[0]].text}  # {attrs['name']}")
            scope.bound[attrs["name"]] = name
        elif node.op == "loop":
            self.results[node] = self._loop(node)
        elif node.op == "get":
            scope.values[node] = self.results[node.args[0]][attrs["index"]]
        else:
            scope.values[node] = self._value(node, attrs)

    def _value(self, node: Node, attrs: Mapping[str, Any]) -> Value:
        scope = self.scope
        if node.op in POINTWISE:
            values, layout = aligned(scope, [scope.values[arg] for arg in node.args], node.shape)
            return scope.keep(pointwise(node, values, has_erf=scope.chip.erf), layout)
        if node.op == "constant":
            return number(attrs["value"], node.dtype)
        if node.op == "size":
            return scope.keep(scope.size(attrs["dim"]))
        if node.op == "iota":
            return self._iota(node)
        if node.op == "load":
            return load(scope, node)
        value = scope.values[node.args[0]]
        if node.op == "expand":
            return expand(scope, value, len(node.shape))
        if node.op == "permute":
            return permute(scope, value, attrs["order"])
        if node.op == "reshape":
            return reshape(scope, value, node.args[0].shape, node.shape)
        if node.op in _ON_TILES:
            return _ON_TILES[node.op](scope, node)
        raise CompilationFailed(f"the Triton target cannot print {node.op!r} inside a kernel")

    def _iota(self, node: Node) -> Value:
        (axes,) = self.scope.layout(node.shape)
        if not axes:
            return number(0, node.dtype, 1)
        bounds = (0, axes[0].padded - 1)
        value = Value(self.scope.places(axes), "int32", (axes,), bounds)
        return value.as_kind("float32") if node.dtype.is_floating else value

    def _loop(self, node: Node) -> tuple[Value, ...]:
        """Print a loop; what it carries has the layout that its body gives it."""
        scope, attrs = self.scope, dict[str, Any](node.attrs)
        body, first = attrs["body"], node.args[2:]
        start, stop = (scope.values[arg] for arg in node.args[:2])
        index = scope.name("i")
        names = [scope.name("c") for _ in first]
        layouts = [scope.values[arg].layout for arg in first]
        carried = body.parameters[1:]
        bounds = _index_bounds(start, stop, attrs["step"])
        kind = "int64" if "int64" in (start.kind, stop.kind) else "int32"
        number = f"tl.full([], {index}, tl.{kind})" if scope.chip.is_interpreted else index
        scope.values[body.parameters[0]] = Value(number, kind, (), bounds)
        if start.bounds[0] >= 0 and attrs["step"] == 1:
            scope.limits[body.parameters[0]] = _as_dim(node.args[1])
        outer = scope.lines
        for _ in range(MOST_ROUNDS):
            for parameter, name, layout in zip(carried, names, layouts, strict=True):
                scope.values[parameter] = _carried(parameter, name, layout)
            scope.lines = []
            with scope.indented():
                self.region(body)
                results = [scope.values[result] for result in body.results]
                wanted = [_settled(a, b.layout) for a, b in zip(layouts, results, strict=True)]
                if wanted == layouts:
                    self._pass_on(carried, results)
            inner, scope.lines = scope.lines, outer
            if wanted == layouts:
                break
            layouts = wanted
        for parameter, arg in zip(carried, first, strict=True):
            target = scope.values[parameter]
            value = self._fitted(scope.values[arg], target, arg.shape)
            scope.lines.append(f"{target.text} = {value.text}")
        step = attrs["step"]
        scope.lines.append(f"for {index} in range({start.text}, {stop.text}, {step}):")
        scope.lines += inner
        return tuple(scope.values[parameter] for parameter in carried)

    def _pass_on(self, carried: Sequence[Node], results: Sequence[Value]) -> None:
        """Give the carried names their next values, all at once."""
        scope = self.scope
        targets = [scope.values[parameter] for parameter in carried]
        values = [
            self._fitted(value, target, parameter.shape)
            for value, target, parameter in zip(results, targets, carried, strict=True)
        ]
        taken = {target.text for target in targets}
        for k, (target, value) in enumerate(zip(targets, values, strict=True)):
            if value.text in taken and value.text != target.text:
                copy = scope.name("v")
                scope.lines.append(f"{copy} = {value.text}")
                values[k] = replace(value, text=copy)
        scope.lines += [
            f"{target.text} = {value.text}" for target, value in zip(targets, values, strict=True)
        ]

    def _fitted(self, value: Value, target: Value, shape: tuple[Dim, ...]) -> Value:
        """The value in the type and the layout of a carried variable."""
        scope = self.scope
        value = value.wide.as_kind(target.kind)
        value = relaid(scope, value, shape, target.layout)
        if value.number is not None and not any(target.layout):
            text = f"tl.full([], {value.text}, tl.{target.kind})"
            return replace(value, text=text, number=None)
        return scope.grown(value, target.layout)


def _carried(parameter: Node, name: str, layout: Layout) -> Value:
    kind = "float32" if parameter.dtype.is_floating else STORED[parameter.dtype]
    return Value(name, kind, layout, INTEGERS.get(kind, INT64))


def _as_dim(node: Node) -> Dim | None:
    """The size behind the end of a loop, if it is one."""
    value = dict(node.attrs).get("dim" if node.op == "size" else "value")
    return value if isinstance(value, int | Expression) else None


def _settled(have: Layout, found: Layout) -> Layout:
    return tuple(merged(a, b) or a for a, b in zip(have, found, strict=True))


def _index_bounds(start: Value, stop: Value, step: int) -> Bounds:
    low, high = start.bounds[0], stop.bounds[1] - 1
    if start.number is not None:
        high = low + (high - low) // step * step
    return low, max(low, high)


_ON_TILES = {"reduce": reduce, "cumsum": cumsum, "dot": dot, "slice": cut}
