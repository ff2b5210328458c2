"""Nodes, interning, walking, and the rules of operations."""

import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output, rebuild, walk
from banyan.compiler.ir.groups import users_of
from banyan.compiler.ir.operations import infer_type, pack_width
from banyan.compiler.ir.types import DType, TensorType, TupleType
from banyan.foundation.errors import GraphError
from tests.compiler.ir.sample_kernels import TOKENS, norm_graph

F = DType.FLOAT32
MATRIX = TensorType((TOKENS, 8), F)


def test_the_same_request_gives_the_same_node() -> None:
    builder = Builder()
    x = builder.input("x", MATRIX)
    assert builder.add("add", (x, x)) is builder.add("add", (x, x))
    assert builder.add("add", (x, x)) is not builder.add("mul", (x, x))


def test_one_and_true_and_one_point_zero_are_different_constants() -> None:
    builder = Builder()
    made = [builder.add("constant", value=v, dtype=F) for v in (1, True, 1.0)]
    assert len({id(node) for node in made}) == 3


def test_zero_and_minus_zero_are_different_data() -> None:
    builder = Builder()
    plain, negative = (
        builder.add("data", values=(zero, 1.0), shape=(2,), dtype=F) for zero in (0.0, -0.0)
    )
    assert plain is not negative
    assert plain is builder.add("data", values=(0.0, 1.0), shape=(2,), dtype=F)


def test_parameters_are_never_shared() -> None:
    builder = Builder()
    assert builder.parameter(MATRIX) is not builder.parameter(MATRIX)


def test_walking_gives_arguments_before_users_and_each_node_once() -> None:
    graph = norm_graph()
    order = graph.nodes()
    place = {node: index for index, node in enumerate(order)}
    assert len(place) == len(order)
    assert all(place[arg] < place[node] for node in order for arg in node.args)


def test_a_chain_deeper_than_the_python_stack_can_be_walked() -> None:
    builder = Builder()
    node = builder.input("x", MATRIX)
    for _ in range(5000):
        node = builder.add("neg", (node,))
    assert len(walk([node])) == 5001


def test_users_are_listed_once_for_each_argument() -> None:
    builder = Builder()
    x = builder.input("x", MATRIX)
    y = builder.add("add", (x, x))
    assert users_of(Graph("g", (x,), (Output("y", y), Output("z", y))).nodes()) == {
        x: [y, y],
        y: [],
    }


def test_no_node_is_added_that_would_change_nothing() -> None:
    builder = Builder()
    x = builder.input("x", MATRIX)
    assert x.cast(x.dtype) is x
    assert x.reshape(x.shape) is x
    assert x.expand(x.shape) is x
    assert x.permute((0, 1)) is x
    assert x.first_places(x.shape) is x
    assert x.first_places((x.shape[0], 1)).shape == (x.shape[0], 1)


def test_operators_grow_numbers_sizes_and_shapes_of_one() -> None:
    builder = Builder()
    x = builder.input("x", MATRIX)
    row = x.reduce("sum", (0,))
    column = x.reduce("max", (1,), keep=True)
    assert (x - column) is builder.add("sub", (x, builder.add("expand", (column,), shape=x.shape)))
    assert (row * x).shape == x.shape
    number = builder.add("constant", value=2.0, dtype=x.dtype)
    assert 2 / x is builder.add("div", (builder.add("expand", (number,), shape=x.shape), x))
    size = (x + TOKENS).args[1].args[0]
    assert (size.op, size.args[0].attr("dim")) == ("cast", TOKENS)


def test_a_choice_takes_its_type_from_the_side_that_is_no_number() -> None:
    builder = Builder()
    x = builder.input("x", MATRIX)
    assert (x > 0).choose(x, 0.0).type == (x > 0).choose(-1, x).type == x.type
    with pytest.raises(TypeError, match="no element type"):
        (x > 0).choose(1, 2)


def test_a_node_writes_no_others_when_its_graph_is_finished() -> None:
    x = Builder().input("x", MATRIX)
    with pytest.raises(GraphError, match="written to its end"):
        _ = x + 1


def test_symbols_come_from_the_inputs() -> None:
    assert [s.name for s in norm_graph().symbols()] == ["T"]


def test_kernel_parts_cannot_be_rebuilt_alone() -> None:
    builder = Builder()
    with pytest.raises(GraphError, match="belong to one kernel"):
        rebuild(builder, builder.pointer("x", MATRIX, "read"), ())


def test_a_node_of_several_results_has_no_single_shape() -> None:
    builder = Builder()
    experts = builder.input("e", TensorType((TOKENS,), DType.INT64))
    with pytest.raises(GraphError, match="2 results"):
        _ = builder.add("group_rows", (experts,), groups=4).shape


def test_a_missing_attribute_is_named() -> None:
    builder = Builder()
    with pytest.raises(KeyError, match="no attribute 'kind'"):
        builder.input("x", MATRIX).attr("kind")


@pytest.mark.parametrize(
    ("op", "types", "attrs", "message"),
    [
        ("frobnicate", (MATRIX,), {}, "unknown operation"),
        ("add", (MATRIX, TensorType((8,), F)), {}, "use expand"),
        ("add", (MATRIX, TensorType((TOKENS, 8), DType.BFLOAT16)), {}, "use cast"),
        ("add", (MATRIX,), {}, "takes two arguments"),
        ("neg", (MATRIX, MATRIX), {}, "takes one argument"),
        ("where", (MATRIX, MATRIX, MATRIX), {}, "takes bool"),
        ("reshape", (MATRIX,), {"shape": (TOKENS, 9)}, "another element count"),
        ("permute", (MATRIX,), {"order": (0, 0)}, "no permutation"),
        ("expand", (MATRIX,), {"shape": (TOKENS, 9)}, "cannot grow"),
        ("concat", (MATRIX, TensorType((TOKENS, 8), DType.INT64)), {"axis": 0}, "parts differ"),
        ("reduce", (MATRIX,), {"axes": (2,), "kind": "sum"}, "out of range"),
        ("reduce", (MATRIX,), {"axes": (1,), "kind": "mean"}, "kind must be"),
        ("dot", (MATRIX, MATRIX), {"dtype": F}, "contracted sizes differ"),
        ("constant", (), {"value": "one", "dtype": F}, "must be a number"),
        ("data", (), {"values": (1, 2), "shape": (3,), "dtype": F}, "2 values, not 3"),
        ("cast", (MATRIX,), {}, "dtype"),
    ],
)
def test_a_rule_refuses_what_does_not_fit(
    op: str, types: tuple[TensorType, ...], attrs: dict[str, object], message: str
) -> None:
    with pytest.raises(GraphError, match=message):
        infer_type(op, types, attrs)


def test_types_follow_from_arguments() -> None:
    assert infer_type("lt", (MATRIX, MATRIX), {}) == TensorType((TOKENS, 8), DType.BOOL)
    assert infer_type("reduce", (MATRIX,), {"axes": (1,), "kind": "argmax"}) == TensorType(
        (TOKENS,), DType.INT64
    )
    assert infer_type("pad", (MATRIX,), {"axis": 1, "low": 1, "high": 2, "value": 0.0}) == (
        TensorType((TOKENS, 11), F)
    )
    rows = infer_type("group_rows", (TensorType((TOKENS,), DType.INT64),), {"groups": 4})
    assert rows == TupleType((TensorType((TOKENS,), DType.INT32), TensorType((5,), DType.INT32)))


def test_types_print_shape_dtype_and_space() -> None:
    assert str(MATRIX) == "f32[T, 8]"
    assert MATRIX.maximum_bytes == 64 * 8 * 4
    assert str(TupleType((MATRIX, MATRIX))) == "(f32[T, 8], f32[T, 8])"


def test_two_sixteen_bit_elements_are_packed_side_by_side() -> None:
    assert (pack_width(DType.BFLOAT16), pack_width(F)) == (2, 1)
