"""The values of a random graph: its inputs, and ways to choose among what is there."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import Dim, evaluate, product, symbol
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType, TensorType

FIXED = (1, 2, 3, 4, 8, 17)
FLOATS = (DType.FLOAT32, DType.FLOAT32, DType.BFLOAT16)
WHOLE = (DType.INT64, DType.INT64, DType.INT32, DType.INT8)
EXACT = frozenset(
    "input data iota constant neg abs min max not and or xor eq ne lt le gt ge where cast reshape"
    " permute expand slice concat pad gather take_along".split()
)
"""Operations that give the same bits everywhere for floats; of whole numbers all do."""
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


class Values:
    """What a random graph is made of so far.

    Attributes:
        pool: every value that a step may read.
        least: the least size the symbol may have; 0 allows empty dims.
    """

    def __init__(self, draw: st.DrawFn, with_bfloat16: bool, least: int) -> None:
        self.draw = draw
        self.least = least
        self.size: Dim = symbol("n", least, 6)
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
            grown = (*found, self.pick((*FIXED, self.size, self.size)))
            found = grown if largest(grown) <= LARGEST else found
        return found

    def add_input(self) -> None:
        # The first input has the symbol, so that it is always bound.
        shape = self.shape() if self.inputs else (self.size, self.pick(FIXED))
        is_whole = bool(self.inputs) and self.draw(st.integers(0, 3)) == 0
        self.pool.append(self.input(shape, self.pick(WHOLE if is_whole else self.floats)))

    def input(self, shape: tuple[Dim, ...], dtype: DType) -> Node:
        node = self.builder.input(f"x{len(self.inputs)}", TensorType(shape, dtype))
        self.inputs.append(node)
        return node

    def operand(self) -> Node:
        # Recent values are picked more often, so that graphs grow deep.
        recent: Node = self.pick(self.pool[-4:] if self.draw(st.booleans()) else self.pool)
        return recent

    def case(self) -> Case:
        used = [node for node in self.pool if node.op != "input"] or self.pool
        results = {used[-1]: None, self.pick(used): None}
        outputs = tuple(Output(f"y{i}", node) for i, node in enumerate(results))
        graph = Graph("random", tuple(self.inputs), outputs)
        seed, size = self.draw(st.integers(0, 99)), self.draw(st.integers(self.least, 6))
        generator = np.random.default_rng(seed)
        arrays = {}
        for node in self.inputs:
            shape = tuple(evaluate(dim, {"n": size}) for dim in node.shape)
            least = 0 if node.dtype is DType.UINT8 else -9
            floats, whole = generator.uniform(-1, 1, shape), generator.integers(least, 10, shape)
            values = floats if node.dtype.is_floating else whole
            arrays[str(node.attr("name"))] = values.astype(node.dtype.numpy)
        return Case(graph, arrays)

    def grown(self, x: Node, shape: tuple[Dim, ...]) -> Node:
        return x if x.shape == shape else self.add("expand", x, shape=shape)

    def number(self, value: Any, like: Node) -> Node:
        constant = self.add("constant", value=value, dtype=like.dtype)
        return self.grown(constant, like.shape)

    def floating(self, x: Node) -> Node:
        return x if x.dtype.is_floating else self.add("cast", x, dtype=self.pick(self.floats))

    def wide(self, x: Node) -> Node:
        return x if x.dtype is DType.FLOAT32 else self.add("cast", x, dtype=DType.FLOAT32)

    def tame(self, x: Node) -> Node:
        return self.add("tanh", x)

    def partner(self, x: Node) -> Node:
        """Another value of the shape and type of `x`."""
        fitting = [y for y in self.pool if grows(y.shape, x.shape)]
        other = self.pick(fitting) if fitting else self.number(1, x)
        same = other if other.dtype is x.dtype else self.add("cast", other, dtype=x.dtype)
        return self.grown(same, x.shape)

    def is_exact(self, x: Node) -> bool:
        is_kept = x.op in EXACT or not x.dtype.is_floating
        return is_kept and all(self.is_exact(arg) for arg in x.args)

    def exact(self, shape: tuple[Dim, ...]) -> Node:
        """A value that every target has to the bit, grown to a shape."""
        fitting = [y for y in self.pool if self.is_exact(y) and grows(y.shape, shape)]
        if fitting:
            return self.grown(self.pick(fitting), shape)
        data = self.add(
            "data", values=(self.draw(st.integers(-9, 9)),), shape=(), dtype=DType.INT64
        )
        return self.grown(data, shape)

    def flags(self, shape: tuple[Dim, ...]) -> Node:
        left = self.exact(shape)
        if left.dtype is DType.BOOL:
            return self.add("not", left)
        right = self.exact(shape) if self.draw(st.booleans()) else self.number(0, left)
        if right.dtype is not left.dtype:
            right = self.number(1, left)
        return self.add(self.pick(["eq", "ne", "lt", "le", "gt", "ge"]), left, right)

    def fixed_axis(self, x: Node) -> int | None:
        fixed = [i for i, size in enumerate(x.shape) if isinstance(size, int) and size > 1]
        return self.pick(fixed) if fixed else None

    def places(self, shape: tuple[Dim, ...], size: int) -> Node:
        """Numbers in [0, size), known or from an argument."""
        if self.draw(st.booleans()) and all(isinstance(dim, int) for dim in shape):
            count = largest(shape)
            values = tuple(self.draw(st.integers(0, size - 1)) for _ in range(count))
            return self.add("data", values=values, shape=shape, dtype=DType.INT64)
        found = self.exact(shape)
        if found.dtype.is_floating:
            found = self.add("gt", found, self.number(0, found))
        found = self.add("cast", found, dtype=DType.INT64)
        return self.add("mod", found, self.number(size, found))


def grows(source: tuple[Dim, ...], shape: tuple[Dim, ...]) -> bool:
    pairs = zip(reversed(source), reversed(shape), strict=False)
    return len(source) <= len(shape) and all(have in (1, want) for have, want in pairs)


def largest(shape: tuple[Dim, ...]) -> int:
    return evaluate(product(shape), {"n": 6})
