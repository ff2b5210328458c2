"""Small random graphs for comparing a pass or a target with the interpreter.

Every graph is legal, has one symbol `n` in [1, 6], and keeps numbers small, so that float32 results
can be compared with a fixed tolerance.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import Dim, evaluate, product, symbol
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType, TensorType

N = symbol("n", 1, 6)
SIZES: tuple[Dim, ...] = (1, 2, 3, 4, 8, 17, N, N)
FLOATS = (DType.FLOAT32, DType.FLOAT32, DType.BFLOAT16)
LARGEST = 600
"""Elements of one value, at the symbol's maximum."""


class Case:
    """A graph and arrays for its inputs."""

    def __init__(self, graph: Graph, arrays: dict[str, Any]) -> None:
        self.graph = graph
        self.arrays = arrays

    def __repr__(self) -> str:
        shapes = {name: array.shape for name, array in self.arrays.items()}
        return f"{print_graph(self.graph)} on {shapes}"


@st.composite
def cases(draw: st.DrawFn, *, max_steps: int = 8, with_bfloat16: bool = True) -> Case:
    """A random graph with inputs that fit it."""
    maker = _Maker(draw, with_bfloat16)
    for _ in range(draw(st.integers(1, 3))):
        maker.add_input()
    for _ in range(draw(st.integers(max_steps // 2, max_steps))):
        maker.step()
    return maker.case()


class _Maker:
    def __init__(self, draw: st.DrawFn, with_bfloat16: bool) -> None:
        self.draw = draw
        self.builder = Builder()
        self.floats = FLOATS if with_bfloat16 else (DType.FLOAT32,)
        self.inputs: list[Node] = []
        self.pool: list[Node] = []

    def add(self, op: str, *args: Node, **attrs: Any) -> Node:
        return self.builder.add(op, args, **attrs)

    def pick(self, choices: Any) -> Any:
        return self.draw(st.sampled_from(list(choices)))

    def shape(self) -> tuple[Dim, ...]:
        rank = self.draw(st.integers(0, 3))
        found: tuple[Dim, ...] = ()
        for _ in range(rank):
            grown = (*found, self.pick(SIZES))
            found = grown if _largest(grown) <= LARGEST else found
        return found

    def add_input(self) -> None:
        # The first input has the symbol, so that it is always bound.
        shape = self.shape() if self.inputs else (N, self.pick(SIZES))
        kind = TensorType(shape, self.pick(self.floats))
        node = self.builder.input(f"x{len(self.inputs)}", kind)
        self.inputs.append(node)
        self.pool.append(node)

    def operand(self) -> Node:
        # Recent values are picked more often, so that graphs grow deep.
        recent: Node = self.pick(self.pool[-4:] if self.draw(st.booleans()) else self.pool)
        return recent

    def step(self) -> None:
        rules: list[Callable[[Node], Node]] = [
            self.unary, self.binary, self.binary, self.choose, self.cast, self.reduce,
            self.reduce, self.reshape, self.permute, self.expand, self.slice, self.concat,
            self.pad, self.gather, self.dot, self.softmax, self.cumsum,
        ]  # fmt: skip
        node = self.pick(rules)(self.operand())
        if _largest(node.shape) <= LARGEST:
            self.pool.append(node)

    def case(self) -> Case:
        used = [node for node in self.pool if node.op != "input"] or self.pool
        results = {used[-1]: None, self.pick(used): None}
        outputs = tuple(Output(f"y{i}", node) for i, node in enumerate(results))
        graph = Graph("random", tuple(self.inputs), outputs)
        seed, size = self.draw(st.integers(0, 99)), self.draw(st.integers(1, 6))
        generator = np.random.default_rng(seed)
        arrays = {}
        for node in self.inputs:
            shape = tuple(evaluate(dim, {"n": size}) for dim in node.shape)
            values = generator.uniform(-1, 1, shape)
            arrays[str(node.attr("name"))] = values.astype(node.dtype.numpy)
        return Case(graph, arrays)

    def grown(self, x: Node, shape: tuple[Dim, ...]) -> Node:
        return x if x.shape == shape else self.add("expand", x, shape=shape)

    def number(self, value: Any, like: Node) -> Node:
        constant = self.add("constant", value=value, dtype=like.dtype)
        return self.grown(constant, like.shape)

    def unary(self, x: Node) -> Node:
        return self.add(self.pick(["neg", "abs", "tanh", "sin", "sigmoid", "exp"]), self.tame(x))

    def tame(self, x: Node) -> Node:
        return self.add("tanh", x)

    def partner(self, x: Node) -> Node:
        """Another value of the shape and type of `x`."""
        fitting = [
            y
            for y in self.pool
            if len(y.shape) <= len(x.shape)
            and all(a in (1, b) for a, b in zip(reversed(y.shape), reversed(x.shape), strict=False))
        ]
        other = self.pick(fitting) if fitting else self.number(0.5, x)
        same = other if other.dtype is x.dtype else self.add("cast", other, dtype=x.dtype)
        return self.grown(same, x.shape)

    def binary(self, x: Node) -> Node:
        op = self.pick(["add", "sub", "mul", "max", "min"])
        return self.add(op, self.tame(x), self.tame(self.partner(x)))

    def choose(self, x: Node) -> Node:
        other = self.partner(x)
        return self.add("where", self.add("gt", x, self.number(0.1, x)), x, other)

    def cast(self, x: Node) -> Node:
        return self.add("cast", x, dtype=self.pick(self.floats))

    def reduce(self, x: Node) -> Node:
        if not x.shape:
            return x
        axes = self.draw(st.sets(st.integers(0, len(x.shape) - 1), min_size=1))
        wide = x if x.dtype is DType.FLOAT32 else self.add("cast", x, dtype=DType.FLOAT32)
        reduced = self.add(
            "reduce", wide, axes=tuple(sorted(axes)), kind=self.pick(["sum", "max", "min"])
        )
        if self.draw(st.booleans()):
            kept = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
            return self.grown(self.add("reshape", reduced, shape=kept), x.shape)
        return reduced

    def reshape(self, x: Node) -> Node:
        if not x.shape:
            return self.add("reshape", x, shape=(1,))
        axis = self.draw(st.integers(0, len(x.shape) - 1))
        size = x.shape[axis]
        if axis + 1 < len(x.shape) and self.draw(st.booleans()):
            merged = (*x.shape[:axis], size * x.shape[axis + 1], *x.shape[axis + 2 :])
            return self.add("reshape", x, shape=merged)
        if isinstance(size, int) and size % 2 == 0 and len(x.shape) < 4:
            return self.add(
                "reshape", x, shape=(*x.shape[:axis], size // 2, 2, *x.shape[axis + 1 :])
            )
        return self.add("reshape", x, shape=(*x.shape[:axis], 1, *x.shape[axis:]))

    def permute(self, x: Node) -> Node:
        order = self.draw(st.permutations(range(len(x.shape))))
        return self.add("permute", x, order=tuple(order))

    def expand(self, x: Node) -> Node:
        shape = tuple(self.pick(SIZES) if size == 1 else size for size in x.shape)
        if len(shape) < 3 and self.draw(st.booleans()):
            shape = (self.pick(SIZES), *shape)
        return self.grown(x, shape) if _largest(shape) <= LARGEST else x

    def fixed_axis(self, x: Node) -> int | None:
        fixed = [i for i, size in enumerate(x.shape) if isinstance(size, int) and size > 1]
        return self.pick(fixed) if fixed else None

    def slice(self, x: Node) -> Node:
        axis = self.fixed_axis(x)
        if axis is None:
            return x
        size = x.shape[axis]
        assert isinstance(size, int)
        start = self.draw(st.integers(0, size - 1))
        stop = self.draw(st.integers(start + 1, size))
        step = self.pick([1, 1, 2])
        return self.add("slice", x, axis=axis, start=start, stop=stop, step=step)

    def concat(self, x: Node) -> Node:
        if not x.shape:
            return x
        axis = self.draw(st.integers(0, len(x.shape) - 1))
        parts = [x, self.add("neg", x)]
        if self.draw(st.booleans()):
            parts.append(self.partner(x))
        return self.add("concat", *parts, axis=axis)

    def pad(self, x: Node) -> Node:
        if not x.shape:
            return x
        axis = self.draw(st.integers(0, len(x.shape) - 1))
        low, high = self.draw(st.integers(0, 2)), self.draw(st.integers(0, 2))
        return self.add("pad", x, axis=axis, low=low, high=high, value=0.5)

    def gather(self, x: Node) -> Node:
        axis = self.fixed_axis(x)
        if axis is None or len(x.shape) > 3:
            return x
        size = x.shape[axis]
        assert isinstance(size, int)
        count = self.draw(st.integers(1, 4))
        values = tuple(self.draw(st.integers(0, size - 1)) for _ in range(count))
        index = self.add("data", values=values, shape=(count,), dtype=DType.INT64)
        return self.add("gather", x, index, axis=axis)

    def dot(self, x: Node) -> Node:
        if len(x.shape) < 2 or len(x.shape) > 3:
            return x
        other = self.tame(x)
        return self.add("dot", self.tame(x), other, transpose_b=True, dtype=DType.FLOAT32)

    def softmax(self, x: Node) -> Node:
        if not x.shape:
            return x
        wide = x if x.dtype is DType.FLOAT32 else self.add("cast", x, dtype=DType.FLOAT32)
        axis = self.draw(st.integers(0, len(x.shape) - 1))
        kept = tuple(1 if i == axis else d for i, d in enumerate(x.shape))

        def along(node: Node, kind: str) -> Node:
            reduced = self.add("reduce", node, axes=(axis,), kind=kind)
            return self.grown(self.add("reshape", reduced, shape=kept), x.shape)

        grown = self.add("exp", self.add("sub", wide, along(wide, "max")))
        return self.add("div", grown, along(grown, "sum"))

    def cumsum(self, x: Node) -> Node:
        if not x.shape or x.dtype is not DType.FLOAT32:
            return x
        return self.add("cumsum", x, axis=self.draw(st.integers(0, len(x.shape) - 1)))


def _largest(shape: tuple[Dim, ...]) -> int:
    return evaluate(product(shape), {"n": 6})
