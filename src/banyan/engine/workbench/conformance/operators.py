"""Graphs of the plain operations, in every element type that models use, with odd sizes."""

from collections.abc import Iterator

from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.engine.workbench.conformance.graph_case import GraphCase

FLOATS = (DType.FLOAT32, DType.BFLOAT16)
MOST = 64
N = symbol("n", 1, MOST)
_WIDTH = 7


def operator_cases() -> Iterator[GraphCase]:
    """Every family of operations."""
    for dtype in FLOATS:
        yield unary_case(dtype)
        yield binary_case(dtype)
        yield reduction_case(dtype)
        yield moving_case(dtype)
    yield whole_number_case()
    yield cast_case()
    yield indexing_case()
    yield scatter_case()


def named(*results: Node) -> tuple[Output, ...]:
    """Outputs called by the operation that makes them and their number."""
    return tuple(Output(f"{node.op} {i}", node) for i, node in enumerate(results))


def unary_case(dtype: DType) -> GraphCase:
    """Functions of one number."""
    builder = Builder()
    x = builder.input("x", TensorType((N, _WIDTH), dtype))
    positive = x.apply("abs") + 0.25
    anywhere = ("neg", "abs", "exp", "tanh", "erf", "sin", "cos", "sigmoid", "floor")
    results = [x.apply(op) for op in anywhere]
    results += [positive.apply(op) for op in ("log", "sqrt", "rsqrt")]
    return GraphCase(f"functions {dtype.value}", Graph("unary", (x,), named(*results)))


def binary_case(dtype: DType) -> GraphCase:
    """Arithmetic and comparisons of two numbers, and choices."""
    builder = Builder()
    kind = TensorType((N, _WIDTH), dtype)
    x, y = builder.input("x", kind), builder.input("y", kind)
    divisor = y.apply("abs") + 0.5
    results = [x.binary(op, y) for op in ("add", "sub", "mul", "min", "max")]
    results += [x / divisor, divisor.binary("pow", x.apply("tanh"))]
    results += [x.binary(op, y) for op in ("eq", "ne", "lt", "le", "gt", "ge")]
    less, small = x < y, x < 0.0
    results += [(less & ~small).choose(x, y), (less | small).choose(y, x)]
    results.append((less ^ small).choose(x, 1.0))
    return GraphCase(f"arithmetic {dtype.value}", Graph("binary", (x, y), named(*results)))


def reduction_case(dtype: DType) -> GraphCase:
    """Sums, products and extremes along one and several axes, a softmax, and a running sum."""
    builder = Builder()
    x = builder.input("x", TensorType((N, 5, 33), dtype))
    wide = x.cast(DType.FLOAT32)
    results = [wide.reduce("sum", axes) for axes in ((2,), (0,), (1, 2), (0, 1, 2))]
    results += [x.reduce("max", (2,)), x.reduce("min", (1,)), x.reduce("argmax", (2,))]
    results.append(wide.apply("tanh").reduce("prod", (1,)))
    grown = (wide - wide.reduce("max", (2,), keep=True)).apply("exp")
    results.append((grown / grown.reduce("sum", (2,), keep=True)).cast(dtype))
    results.append(wide.apply("cumsum", axis=2))
    return GraphCase(f"reductions {dtype.value}", Graph("reductions", (x,), named(*results)))


def moving_case(dtype: DType) -> GraphCase:
    """What moves numbers about without changing them."""
    builder = Builder()
    x = builder.input("x", TensorType((N, 6, 5), dtype))
    row = builder.input("row", TensorType((6, 1), dtype))
    results = [
        x.reshape((N, 2, 15)),
        x.permute((2, 0, 1)),
        row.expand((N, 6, 5)) + x,
        x.slice(1, 1, 6, 2),
        builder.add("concat", (x, -x), axis=1),
        builder.add("pad", (x,), axis=2, low=1, high=2, value=0.5),
    ]
    return GraphCase(f"moves {dtype.value}", Graph("moves", (x, row), named(*results)))


def whole_number_case() -> GraphCase:
    """Integers are exact, of either sign."""
    builder = Builder()
    found: list[Node] = []
    inputs: list[Node] = []
    for dtype in (DType.INT64, DType.INT32):
        kind = TensorType((N, _WIDTH), dtype)
        x = builder.input(f"x {dtype.value}", kind)
        y = builder.input(f"y {dtype.value}", kind)
        inputs += [x, y]
        found += [x + y, x - y, x * y, x.binary("min", y), x.binary("max", y)]
        found += [x // (y * y + 1), x % (y * y + 1), x.equals(y), x < y]
    counted = builder.add("iota", size=_WIDTH, dtype=DType.INT64).expand((N, _WIDTH))
    known = builder.add("data", values=(4, -1, 7), shape=(3,), dtype=DType.INT32)
    found += [inputs[0] + counted, known.expand((N, 3)), inputs[0].reduce("sum", (1,))]
    return GraphCase("whole numbers", Graph("whole", tuple(inputs), named(*found)))


def cast_case() -> GraphCase:
    """Between element types, by the rules of each."""
    builder = Builder()
    x = builder.input("x", TensorType((N, _WIDTH), DType.FLOAT32))
    whole = builder.input("whole", TensorType((N, _WIDTH), DType.INT64))
    results = [
        x.cast(DType.BFLOAT16).cast(DType.FLOAT32),
        x.cast(DType.FLOAT16).cast(DType.FLOAT32),
        x.cast(DType.INT64),
        x.cast(DType.INT32),
        x.cast(DType.INT8),
        x.cast(DType.BOOL),
        whole.cast(DType.FLOAT32),
        whole.cast(DType.INT8),
        whole.cast(DType.BOOL).cast(DType.FLOAT32),
    ]
    return GraphCase("casts", Graph("casts", (x, whole), named(*results)))


def indexing_case() -> GraphCase:
    """Rows of a table, and one number of each row."""
    builder = Builder()
    table = builder.input("table", TensorType((13, 9), DType.FLOAT32), "weight")
    rows = builder.input("rows", TensorType((N,), DType.INT64))
    columns = builder.input("columns", TensorType((N, 2), DType.INT64))
    found = builder.add("gather", (table, rows), axis=0)
    results = [found, builder.add("take_along", (found, columns), axis=1)]
    return GraphCase(
        "indexing",
        Graph("indexing", (table, rows, columns), named(*results)),
        draws=(
            ("rows", lambda random, shape: random.integers(0, 13, shape)),
            ("columns", lambda random, shape: random.integers(0, 9, shape)),
        ),
    )


def scatter_case() -> GraphCase:
    """Rows written over, added, and kept by size, with places named twice."""
    builder = Builder()
    x = builder.input("x", TensorType((1, 11, 5), DType.FLOAT32))
    places = builder.input("places", TensorType((N,), DType.INT64))
    rows = builder.input("rows", TensorType((1, N, 5), DType.FLOAT32))
    results = [
        builder.add("scatter", (x, places, rows), kind=kind)
        for kind in ("set", "add", "amax", "amin")
    ]
    draws = (("places", lambda random, shape: random.integers(0, 11, shape)),)
    return GraphCase("scatter", Graph("scatter", (x, places, rows), named(*results)), draws=draws)
