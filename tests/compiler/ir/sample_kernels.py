"""Small hand-written kernels and graphs for tests of the representation."""

from banyan.compiler.ir.graph import Builder, Graph, Kernel, Node, Output, Region, scalar_type
from banyan.compiler.ir.symbols import ceil_divide, symbol
from banyan.compiler.ir.types import DType, TensorType

FLOAT = DType.FLOAT32
TOKENS = symbol("T", 1, 64)


def number(builder: Builder, value: int) -> Node:
    """An int64 scalar inside a kernel."""
    return builder.add("constant", value=value, dtype=DType.INT64, space="tile")


def row_squares_kernel(builder: Builder) -> Kernel:
    """x[T, 8] -> y[T] = sum of squares, four rows to a program, columns in a loop."""
    x = builder.pointer("x", TensorType((TOKENS, 8), FLOAT), "read")
    y = builder.pointer("y", TensorType((TOKENS,), FLOAT), "write")
    program = builder.parameter(scalar_type(DType.INT64))
    four = number(builder, 4)
    start = builder.add("mul", (program, four))
    left = builder.add("sub", (builder.add("size", dim=TOKENS, space="tile"), start))
    rows = builder.add("min", (left, four))
    bind = builder.add("bind", (rows,), name="rows", minimum=0, maximum=4)
    size = symbol("rows", 0, 4)
    zero = builder.add("constant", value=0.0, dtype=FLOAT, space="tile")
    first = builder.add("expand", (zero,), shape=(size,))
    column = builder.parameter(scalar_type(DType.INT64))
    total = builder.parameter(first.tensor)
    loaded = builder.add("load", (x, start, column), index=("range", "at"), sizes=(size, 1))
    grown = builder.add("add", (total, builder.add("mul", (loaded, loaded))))
    body = Region((column, total), (), (grown,))
    stops = (number(builder, 0), number(builder, 8), first)
    loop = builder.add("loop", stops, step=1, body=body)
    result = builder.add("get", (loop,), index=0)
    store = builder.add("store", (y, result, start), index=("range",), sizes=(size,))
    return Kernel(
        "row_squares", (ceil_divide(TOKENS, 4),), (x, y), Region((program,), (bind, store), ())
    )


def row_squares_graph() -> Graph:
    """One call of `row_squares_kernel`."""
    builder = Builder()
    x = builder.input("x", TensorType((TOKENS, 8), FLOAT))
    call = builder.add("call", (x,), kernel=row_squares_kernel(builder))
    return Graph("squares", (x,), (Output("y", builder.add("get", (call,), index=0)),))


def norm_graph() -> Graph:
    """x[T, 8] scaled by its root mean square and a weight; one state takes the input over."""
    builder = Builder()
    x = builder.input("x", TensorType((TOKENS, 8), FLOAT))
    weight = builder.input("norm.weight", TensorType((8,), FLOAT), "weight")
    state = builder.input("last", TensorType((TOKENS, 8), FLOAT), "state")
    total = builder.add("reduce", (builder.add("mul", (x, x)),), axes=(1,), kind="sum")
    epsilon = builder.add("constant", value=1e-5, dtype=FLOAT)
    shifted = builder.add("add", (total, builder.add("expand", (epsilon,), shape=(TOKENS,))))
    scale = builder.add("reshape", (builder.add("rsqrt", (shifted,)),), shape=(TOKENS, 1))
    wide = builder.add("expand", (scale,), shape=(TOKENS, 8))
    grown = builder.add("expand", (weight,), shape=(TOKENS, 8))
    y = builder.add("mul", (builder.add("mul", (x, wide)), grown))
    kept = builder.add("add", (state, x))
    return Graph("norm", (x, weight, state), (Output("y", y), Output("last", kept, "last")))
