"""Where nodes of a kernel are computed."""

from banyan.compiler.ir.graph import Builder, Region, scalar_type
from banyan.compiler.ir.placement import has_effects, place
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from tests.compiler.ir.sample_kernels import FLOAT, number, row_squares_kernel


def test_arguments_come_before_users_and_effects_keep_their_order() -> None:
    kernel = row_squares_kernel(Builder())
    order = place(kernel.body)[kernel.body]
    position = {node: index for index, node in enumerate(order)}
    for node in order:
        assert all(position[arg] < position[node] for arg in node.args if arg in position)
    assert [node for node in order if has_effects(node)] == list(kernel.body.effects)


def test_what_does_not_change_inside_a_loop_is_computed_before_it() -> None:
    builder = Builder()
    program = builder.parameter(scalar_type(DType.INT64))
    index = builder.parameter(scalar_type(DType.INT64))
    carried = builder.parameter(scalar_type(DType.INT64))
    steady = builder.add("mul", (program, number(builder, 3)))
    moving = builder.add("add", (carried, builder.add("mul", (index, steady))))
    body = Region((index, carried), (), (moving,))
    zero = number(builder, 0)
    loop = builder.add("loop", (zero, number(builder, 4), zero), step=1, body=body)
    y = builder.pointer("y", TensorType((4,), DType.INT64), "write")
    result = builder.add("get", (loop,), index=0)
    store = builder.add("store", (y, result, program), index=("at",), sizes=(1,))
    outer = Region((program,), (store,), ())
    order = place(outer)
    assert steady in order[outer]
    assert order[outer].index(steady) < order[outer].index(loop)
    assert moving in order[body]
    assert steady not in order[body]


def test_a_value_sized_by_a_symbol_bound_in_a_loop_stays_in_the_loop() -> None:
    builder = Builder()
    program = builder.parameter(scalar_type(DType.INT64))
    index = builder.parameter(scalar_type(DType.INT64))
    bind = builder.add("bind", (index,), name="rows", minimum=0, maximum=4)
    rows = symbol("rows", 0, 4)
    one = builder.add("constant", value=1.0, dtype=FLOAT, space="tile")
    ones = builder.add("expand", (one,), shape=(rows,))
    y = builder.pointer("y", TensorType((4,), FLOAT), "write")
    store = builder.add("store", (y, ones, number(builder, 0)), index=("range",), sizes=(rows,))
    body = Region((index,), (bind, store), ())
    loop = builder.add("loop", (number(builder, 0), number(builder, 4)), step=1, body=body)
    outer = Region((program,), (loop,), ())
    order = place(outer)
    assert order[body].index(bind) < order[body].index(ones) < order[body].index(store)
    assert one in order[outer]
