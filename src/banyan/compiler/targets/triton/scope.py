"""The text of one kernel while it is written: lines, names, sizes, places of a block."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.targets.triton.chips import Chip
from banyan.compiler.targets.triton.layouts import Axes, Layout, axis_strides, merged, places, plain
from banyan.compiler.targets.triton.values import INT32, Value, dim_bounds, dim_text, integer_kind


@dataclass(slots=True)
class Scope:
    """Attributes:
    chip: what the text is for.
    pointers: the parameter of each pointer.
    lines: written so far; those inside a loop are indented when it ends.
    values: of nodes.
    bound: the variable of each symbol that the kernel binds.
    symbols: symbols of the graph that the text reads, with their parameters.
    ranges: sizes of the blocks of numbers 0, 1, ... that the text uses.
    least: places that every dim of a matrix read from memory gets.
    limits: the size that a grid index or loop index stays below.
    largest: elements of the largest block.
    num_names: variables so far.
    """

    chip: Chip
    pointers: dict[Node, str]
    least: int
    lines: list[str] = field(default_factory=list)
    values: dict[Node, Value] = field(default_factory=dict)
    bound: dict[str, str] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)
    ranges: set[int] = field(default_factory=set)
    limits: dict[Node, Dim | None] = field(default_factory=dict)
    largest: int = 1
    num_names: int = 0

    def name(self, letter: str) -> str:
        """A fresh variable."""
        self.num_names += 1
        return f"{letter}{self.num_names}"

    def keep(self, value: Value, layout: Layout | None = None) -> Value:
        """Give the value a variable, unless it is a number or has one."""
        if layout is not None:
            value = replace(value, layout=layout)
        self.largest = max(self.largest, prod(map(places, value.layout)))
        if value.number is not None or value.text.isidentifier():
            return value
        name = self.name("v")
        self.lines.append(f"{name} = {value.text}")
        return replace(value, text=name)

    @contextmanager
    def indented(self) -> Iterator[None]:
        """Lines written meanwhile are the body of the line before them."""
        outer, self.lines = self.lines, []
        try:
            yield
        finally:
            outer += [f"    {line}" for line in self.lines or ["pass"]]
            self.lines = outer

    def symbol(self, name: str) -> str:
        """The variable of a symbol."""
        if name in self.bound:
            return self.bound[name]
        return self.symbols.setdefault(name, f"n{len(self.symbols)}")

    def size(self, dim: Dim) -> Value:
        """A size as a scalar."""
        bounds = dim_bounds(dim)
        if isinstance(dim, int):
            return Value(str(dim), integer_kind(bounds), (), bounds, dim)
        kind = integer_kind(bounds)
        if kind == "int32":
            return Value(dim_text(dim, self.symbol), kind, (), bounds)
        text = dim_text(dim, lambda name: f"tl.cast({self.symbol(name)}, tl.int64)")
        return Value(text, kind, (), bounds)

    def layout(self, shape: Sequence[Dim], least: int = 2) -> Layout:
        """How a fresh tile lies."""
        return tuple(plain(size, least) for size in shape)

    def places(self, axes: Axes) -> str:
        """The numbers of all places of a dim, a block of one dim."""
        self.ranges.add(places(axes))
        return f"r{places(axes)}"

    def index(self, axes: Axes, first: int = 0, count: int | None = None) -> str:
        """For each place of a dim, the number of its element among axes `first` and following."""
        chosen = axes[first:] if count is None else axes[first : first + count]
        parts = []
        for k, (_, stride) in enumerate(zip(chosen, axis_strides(chosen), strict=True), first):
            part = self._component(axes, k)
            parts.append(part if stride == 1 else f"{part} * {self.size(stride).text}")
        return parts[0] if len(parts) == 1 else f"({' + '.join(parts)})"

    def _component(self, axes: Axes, k: int) -> str:
        inner = places(axes[k + 1 :])
        text = self.places(axes) if inner == 1 else f"{self.places(axes)} // {inner}"
        if k > 0:
            text = f"{text} % {axes[k].padded}"
        return f"({text})" if " " in text else text

    def inside(self, axes: Axes) -> str | None:
        """For each place of a dim, whether an element lies there; None when one always does."""
        tests = [
            f"({self._component(axes, k)} < {self.size(axis.size).text})"
            for k, axis in enumerate(axes)
            if axis.size != axis.padded
        ]
        text = " & ".join(tests)
        return (text if len(tests) == 1 else f"({text})") if tests else None

    def mask(self, layout: Layout, dims: Sequence[int] | None = None) -> str | None:
        """Where elements lie along `dims` of a block; None for everywhere."""
        tests = []
        for position, axes in enumerate(layout):
            inside = self.inside(axes) if dims is None or position in dims else None
            if inside is not None:
                tests.append(spread(inside, position, len(layout)))
        return " & ".join(tests) or None

    def grown(self, value: Value, layout: Layout) -> Value:
        """The value as a block with all the axes of `layout`."""
        wanted = tuple(merged(h, w) for h, w in zip(value.layout, layout, strict=True))
        if wanted != layout:
            raise AssertionError("a tile is grown to axes it does not have")
        if value.layout == layout:
            return value
        shape = block_shape(layout)
        if not value.is_block:
            text = f"tl.full({shape}, {value.text}, tl.{value.kind})"
        else:
            text = f"tl.broadcast_to({value.text}, {shape})"
        return self.keep(Value(text, value.kind, layout, value.bounds))

    def narrowed(self, value: Value) -> Value:
        """An index in 32 bits."""
        return value.as_kind("int32") if value.kind == "int64" else value

    def fits(self, count: Dim) -> bool:
        """Can elements of a tensor of so many be numbered in 32 bits?"""
        return not self.chip.has_int64 or dim_bounds(count)[1] <= INT32[1]


def block_shape(layout: Layout) -> str:
    """The shape of a block as a Python list."""
    return f"[{', '.join(str(places(axes)) for axes in layout)}]"


def spread(text: str, position: int, rank: int) -> str:
    """A block of one dim as dim `position` of a block of `rank` dims."""
    if rank == 1:
        return text
    return f"{text}[{', '.join(':' if i == position else 'None' for i in range(rank))}]"
