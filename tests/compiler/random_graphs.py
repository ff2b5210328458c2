"""Small random graphs for comparing a pass or a target with the interpreter.

Every graph is legal, has one symbol `n` up to 6, and keeps numbers small, so that float32 results
can be compared with a fixed tolerance. What jumps (comparisons, the place of a maximum, whole
numbers) is made only from values that every target has to the bit: inputs, and inputs moved about.
"""

from collections.abc import Callable

from hypothesis import strategies as st

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import evaluate, product
from banyan.compiler.ir.types import DType
from tests.compiler.random_values import FIXED, LARGEST, WHOLE, Case, Values, largest


@st.composite
def cases(draw: st.DrawFn, *, max_steps: int = 8, with_bfloat16: bool = True) -> Case:
    """A random graph with inputs that fit it; one of eight may have empty dims."""
    least = draw(st.sampled_from([1, 1, 1, 2, 2, 2, 2, 0]))
    maker = _Maker(draw, with_bfloat16, least=least)
    for _ in range(draw(st.integers(1, 3))):
        maker.add_input()
    for _ in range(draw(st.integers(max_steps // 2, max_steps))):
        maker.step()
    return maker.case()


class _Maker(Values):
    def step(self) -> None:
        floats: list[Callable[[Node], Node]] = [
            self.unary, self.binary, self.binary, self.cast, self.reduce, self.reduce, self.dot,
            self.product, self.softmax, self.cumsum, self.attention, self.quantised,
        ]  # fmt: skip
        every: list[Callable[[Node], Node]] = [
            self.choose, self.reshape, self.permute, self.expand, self.slice, self.slice,
            self.concat, self.pad, self.gather, self.take_along, self.scatter, self.hide,
            self.whole, self.place,
        ]  # fmt: skip
        rule, x = self.pick(floats + every), self.operand()
        node = rule(self.floating(x) if rule in floats else x)
        if largest(node.shape) <= LARGEST:
            self.pool.append(node)

    def unary(self, x: Node) -> Node:
        return self.add(self.pick(["neg", "abs", "tanh", "sin", "sigmoid", "exp"]), self.tame(x))

    def binary(self, x: Node) -> Node:
        op = self.pick(["add", "sub", "mul", "max", "min"])
        return self.add(op, self.tame(x), self.tame(self.partner(x)))

    def choose(self, x: Node) -> Node:
        return self.add("where", self.flags(x.shape), x, self.partner(x))

    def hide(self, x: Node) -> Node:
        """A causal or windowed mask over the last two dims, made of positions."""
        if len(x.shape) < 2:
            return x
        rows, columns = x.shape[-2:]
        row = self.add("iota", size=rows, dtype=DType.INT64)
        column = self.add("iota", size=columns, dtype=DType.INT64)
        row = self.grown(self.add("reshape", row, shape=(rows, 1)), (rows, columns))
        column = self.grown(column, (rows, columns))
        seen = self.add(self.pick(["le", "gt"]), column, row)
        if self.draw(st.booleans()):
            near = self.add("lt", self.add("sub", row, column), self.number(2, row))
            seen = self.add(self.pick(["and", "or", "xor"]), seen, near)
        return self.add("where", self.grown(seen, x.shape), x, self.number(0, x))

    def whole(self, x: Node) -> Node:
        """Arithmetic of whole numbers, kept small by a remainder."""
        left, dtype = self.exact(x.shape), self.pick(WHOLE)
        if left.dtype.is_floating:
            left = self.add("gt", left, self.number(0, left))
        left = self.add("cast", left, dtype=dtype)
        op = self.pick(["add", "sub", "mul", "min", "max", "floordiv", "mod", "sum", "cumsum"])
        small = self.add("mod", left, self.number(5, left))
        if op in ("floordiv", "mod"):
            return self.add(op, left, self.add("add", small, self.number(1, small)))
        if op == "sum" and x.shape and dtype is DType.INT64:
            return self.add("reduce", small, axes=(len(x.shape) - 1,), kind="sum")
        if op == "cumsum" and x.shape and dtype is DType.INT64:
            return self.add("cumsum", small, axis=self.draw(st.integers(0, len(x.shape) - 1)))
        return self.add(op if op in ("add", "sub", "mul", "max") else "min", small, left)

    def place(self, x: Node) -> Node:
        """Where the largest of something exact is."""
        fixed = [i for i, size in enumerate(x.shape) if isinstance(size, int)]
        if not fixed:
            return x
        value = self.exact(x.shape)
        value = self.add("cast", value, dtype=DType.INT64) if value.dtype is DType.BOOL else value
        return self.add("reduce", value, axes=(self.pick(fixed),), kind="argmax")

    def cast(self, x: Node) -> Node:
        return self.add("cast", x, dtype=self.pick(self.floats))

    def reduce(self, x: Node) -> Node:
        if not x.shape:
            return x
        axes = self.draw(st.sets(st.integers(0, len(x.shape) - 1), min_size=1))
        # The largest of nothing is no number to compare.
        may_be_empty = self.least == 0 and any(not isinstance(x.shape[i], int) for i in axes)
        kind = "sum" if may_be_empty else self.pick(["sum", "sum", "max", "min", "prod"])
        wide = self.tame(self.wide(x)) if kind == "prod" else self.wide(x)
        reduced = self.add("reduce", wide, axes=tuple(sorted(axes)), kind=kind)
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
        sizes = (*FIXED, self.size, self.size)
        shape = tuple(self.pick(sizes) if size == 1 else size for size in x.shape)
        if len(shape) < 3 and self.draw(st.booleans()):
            shape = (self.pick(sizes), *shape)
        return self.grown(x, shape) if largest(shape) <= LARGEST else x

    def slice(self, x: Node) -> Node:
        if not x.shape:
            return x
        axis = self.draw(st.integers(0, len(x.shape) - 1))
        size, step = x.shape[axis], self.pick([1, 1, 2, 3])
        if not isinstance(size, int):
            # What is left of a dim may be empty only where dims may be.
            smallest = evaluate(size, {"n": self.least})
            start = self.draw(st.integers(0, min(1, smallest - min(1, self.least))))
            return self.add("slice", x, axis=axis, start=start, stop=size, step=step)
        start = self.draw(st.integers(0, max(0, size - 1)))
        stop = self.draw(st.integers(min(start + 1, size), size))
        return self.add("slice", x, axis=axis, start=start, stop=stop, step=step)

    def concat(self, x: Node) -> Node:
        if not x.shape:
            return x
        axis = self.draw(st.integers(0, len(x.shape) - 1))
        parts = [x, x if x.dtype is DType.BOOL else self.add("neg", x)]
        if self.draw(st.booleans()):
            parts.append(self.partner(x))
        return self.add("concat", *parts, axis=axis)

    def pad(self, x: Node) -> Node:
        if not x.shape:
            return x
        axis = self.draw(st.integers(0, len(x.shape) - 1))
        low, high = self.draw(st.integers(0, 2)), self.draw(st.integers(0, 2))
        return self.add(
            "pad", x, axis=axis, low=low, high=high, value=0.5 if x.dtype.is_floating else 1
        )

    def gather(self, x: Node) -> Node:
        axis = self.fixed_axis(x)
        if axis is None or len(x.shape) > 3:
            return x
        size = x.shape[axis]
        assert isinstance(size, int)
        shape = self.pick([(), (self.draw(st.integers(1, 4)),), (self.size,), (2, 2)])
        return self.add("gather", x, self.places(shape, size), axis=axis)

    def take_along(self, x: Node) -> Node:
        axis = self.fixed_axis(x)
        if axis is None:
            return x
        size = x.shape[axis]
        assert isinstance(size, int)
        shape = (*x.shape[:axis], self.draw(st.integers(1, 3)), *x.shape[axis + 1 :])
        return self.add("take_along", x, self.places(shape, size), axis=axis)

    def scatter(self, x: Node) -> Node:
        axis = self.fixed_axis(x)
        if axis is None:
            return x
        size, before, behind = x.shape[axis], product(x.shape[:axis]), product(x.shape[axis + 1 :])
        assert isinstance(size, int)
        x = self.add("cast", x, dtype=DType.INT64) if x.dtype is DType.BOOL else x
        count = self.draw(st.integers(1, 3))
        flat = self.add("reshape", x, shape=(before, size, behind))
        rows = self.add("gather", flat, self.places((count,), size), axis=1)
        shape = self.pick([(count,), (before, count, behind)])
        kinds = ["set", "add", "amax", "amin"] if x.dtype is DType.FLOAT32 else ["set", "amax"]
        places = self.places(shape, size)
        found = self.add("scatter", flat, places, rows, kind=self.pick(kinds))
        return self.add("reshape", found, shape=x.shape)

    def dot(self, x: Node) -> Node:
        if len(x.shape) < 2 or len(x.shape) > 3:
            return x
        x = self.tame(x)
        if self.draw(st.booleans()):
            order = (*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2)
            return self.add("dot", x, self.add("permute", x, order=order), dtype=x.dtype)
        return self.add("dot", x, x, transpose_b=True, dtype=DType.FLOAT32)

    def product(self, x: Node) -> Node:
        """A linear layer; two one after the other make a chain."""
        if len(x.shape) < 2 or not isinstance(x.shape[-1], int):
            return x
        rows, depth = product(x.shape[:-1]), x.shape[-1]
        columns = self.pick([1, 3, 8, 17])
        flat = self.add("reshape", self.tame(x), shape=(rows, depth))
        weight = self.input((columns, depth), x.dtype)
        found = self.add("dot", flat, weight, transpose_b=True, dtype=x.dtype)
        return self.add("reshape", found, shape=(*x.shape[:-1], columns))

    def attention(self, x: Node) -> Node:
        heads, groups = self.pick([(1, 1), (2, 1), (2, 2)])
        keys, size, width = self.pick([3, self.size]), self.pick([4, 8]), self.pick([4, 6])
        if self.least == 0:
            return x
        args = [
            self.input((1, heads, self.pick([2, self.size]), size), x.dtype),
            self.input((1, groups, keys, size), x.dtype),
            self.input((1, groups, keys, width), x.dtype),
        ]
        if self.draw(st.booleans()):
            args.append(self.input((1, 1, 1, keys), DType.FLOAT32))
        found = self.add("attention_forward", *args, causal=self.draw(st.booleans()), scale=0.5)
        return self.add("get", found, index=0)

    def quantised(self, x: Node) -> Node:
        if len(x.shape) != 2 or not isinstance(x.shape[1], int) or x.shape[1] % 2:
            return x
        depth, columns = x.shape[1], self.pick([3, 8])
        layout, width, dtype = self.pick(
            [("int8", depth, DType.INT8), ("int4", depth // 2, DType.UINT8)]
        )
        weight = self.input((columns, width), dtype)
        args = [self.tame(x), weight, self.input((columns, 1), DType.FLOAT32)]
        if layout == "int4" and self.draw(st.booleans()):
            args.append(self.input((columns, 1), DType.UINT8))
        return self.add(
            "quantized_linear", *args, format=layout, group=depth, rows=1, activation="plain",
            dtype=x.dtype,
        )  # fmt: skip

    def softmax(self, x: Node) -> Node:
        if not x.shape or self.least == 0:
            return x
        wide = self.wide(x)
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
