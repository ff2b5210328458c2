"""Each written rule is kept, and each breach is named."""

import dataclasses

import pytest

from banyan.compiler.ir.graph import Builder, Graph, Kernel, Node, Output, Region, scalar_type
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used, verify
from banyan.foundation.errors import GraphError
from tests.compiler.ir.sample_kernels import (
    FLOAT,
    TOKENS,
    norm_graph,
    number,
    row_squares_graph,
    row_squares_kernel,
)

ROW = TensorType((TOKENS,), FLOAT)


def call_graph(builder: Builder, kernel: Kernel) -> Graph:
    """A graph that calls `kernel` on one input."""
    x = builder.input("x", TensorType((TOKENS, 8), FLOAT))
    call = builder.add("call", (x,), kernel=kernel)
    return Graph("g", (x,), (Output("y", builder.add("get", (call,), index=0)),))


@pytest.mark.parametrize("graph", [norm_graph(), row_squares_graph()], ids=["norm", "kernel"])
def test_a_graph_that_keeps_the_rules_is_returned_unchanged(graph: Graph) -> None:
    assert verify(graph) is graph


def test_two_inputs_of_one_name_are_refused() -> None:
    builder = Builder()
    inputs = (builder.input("x", ROW), builder.input("x", ROW, "weight"))
    with pytest.raises(GraphError, match="named twice"):
        verify(Graph("g", inputs, ()))


def test_an_unknown_role_is_refused() -> None:
    x = Builder().input("x", ROW, "guest")
    with pytest.raises(GraphError, match="role 'guest'"):
        verify(Graph("g", (x,), ()))


def test_an_input_that_is_not_listed_is_refused() -> None:
    x = Builder().input("x", ROW)
    with pytest.raises(GraphError, match="not among the graph's inputs"):
        verify(Graph("g", (), (Output("y", x),)))


def test_a_type_that_does_not_follow_is_refused() -> None:
    builder = Builder()
    x = builder.input("x", ROW)
    wrong = Node("neg", (x,), (), TensorType((TOKENS,), DType.INT64), x.maker)
    with pytest.raises(GraphError, match="is marked"):
        verify(Graph("g", (x,), (Output("y", wrong),)))


def test_a_tile_outside_a_kernel_is_refused() -> None:
    tile = Builder().add("constant", value=1, dtype=FLOAT, space="tile")
    with pytest.raises(GraphError, match="tile outside a kernel"):
        verify(Graph("g", (), (Output("y", tile),)))


def test_a_pointer_outside_a_kernel_is_refused() -> None:
    pointer = Builder().pointer("x", ROW, "read")
    with pytest.raises(GraphError, match="belongs inside a kernel"):
        verify(Graph("g", (), (Output("y", pointer),)))


def test_an_output_may_only_update_a_state_of_its_type() -> None:
    builder = Builder()
    x = builder.input("x", ROW)
    state = builder.input("s", TensorType((4,), FLOAT), "state")
    with pytest.raises(GraphError, match="which is no state"):
        verify(Graph("g", (x,), (Output("y", x, "x"),)))
    with pytest.raises(GraphError, match="unlike the state"):
        verify(Graph("g", (x, state), (Output("y", x, "s"),)))
    with pytest.raises(GraphError, match="updated twice"):
        verify(Graph("g", (state,), (Output("a", state, "s"), Output("b", state, "s"))))


def test_a_kernel_needs_one_parameter_for_each_grid_axis() -> None:
    builder = Builder()
    kernel = dataclasses.replace(row_squares_kernel(builder), grid=(1, 1))
    with pytest.raises(GraphError, match="one int64 scalar for each grid axis"):
        verify(call_graph(builder, kernel))


def test_a_kernel_must_not_write_what_it_reads_only() -> None:
    builder = Builder()
    x = builder.pointer("x", TensorType((TOKENS, 8), FLOAT), "read")
    y = builder.pointer("y", ROW, "write")
    program = builder.parameter(scalar_type(DType.INT64))
    one = builder.add("constant", value=1.0, dtype=FLOAT, space="tile")
    store = builder.add(
        "store", (x, one, program, number(builder, 0)), index=("at", "at"), sizes=(1, 1)
    )
    kernel = Kernel("bad", (TOKENS,), (x, y), Region((program,), (store,), ()))
    with pytest.raises(GraphError, match="writes x"):
        verify(call_graph(builder, kernel))


def test_a_kernel_must_not_use_the_pointer_of_another() -> None:
    builder = Builder()
    x = builder.pointer("x", TensorType((TOKENS, 8), FLOAT), "read")
    y = builder.pointer("y", ROW, "write")
    stranger = builder.pointer("z", ROW, "write")
    program = builder.parameter(scalar_type(DType.INT64))
    one = builder.add("constant", value=1.0, dtype=FLOAT, space="tile")
    store = builder.add("store", (stranger, one, program), index=("at",), sizes=(1,))
    kernel = Kernel("bad", (TOKENS,), (x, y), Region((program,), (store,), ()))
    with pytest.raises(GraphError, match="pointer of another kernel"):
        verify(call_graph(builder, kernel))


def test_operations_are_counted() -> None:
    assert operations_used(row_squares_graph()) == {"input": 1, "call": 1, "get": 1}
