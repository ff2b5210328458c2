import numpy as np
import pytest

from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.packing import panel_shape
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType
from banyan.compiler.passes.pack_weights import pack_weights
from banyan.compiler.targets.cpp import packing
from tests.compiler.comparing import assert_same_results

TIED = """\
graph tied {
  symbol n in [1, 9]
  %0 = input {name="table", packing=none, role="weight"} : f32[20, 6]
  %1 = input {name="ids", packing=none, role="argument"} : i64[n]
  %2 = gather %0, %1 {axis=0} : f32[n, 6]
  %3 = dot %2, %0 {dtype=f32, transpose_b=true} : f32[n, 20]
  output y = %3
}
"""


def packings(graph: Graph) -> dict[object, object]:
    return {node.attr("name"): node.attr("packing") for node in graph.inputs}


def test_a_weight_that_is_multiplied_by_becomes_panels() -> None:
    text = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : bf16[3, 40]
  %1 = input {name="w", packing=none, role="weight"} : bf16[20, 40]
  %2 = dot %0, %1 {dtype=bf16, transpose_b=true} : bf16[3, 20]
  output y = %2
}
"""
    wanted = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : bf16[3, 40]
  %1 = input {name="w", packing="panels", role="weight"} : bf16[2, 32, 16, 2]
  %2 = packed_dot %0, %1 {columns=20, dtype=bf16} : bf16[3, 20]
  output y = %2
}
"""
    assert print_graph(pack_weights(parse_graph(text))) == wanted


def test_a_tied_embedding_is_read_from_the_panels() -> None:
    before = parse_graph(TIED)
    after = pack_weights(before)
    assert packings(after) == {"table": "panels", "ids": None}
    generator = np.random.default_rng(0)
    table = generator.normal(size=(20, 6)).astype(np.float32)
    assert_same_results(before, after, {"table": table, "ids": np.array([0, 19, 7])})


def test_padding_of_bfloat16_rows_is_cut_off_again() -> None:
    before = parse_graph(TIED.replace("f32", "bf16"))
    after = pack_weights(before)
    assert any(node.op == "slice" for node in after.nodes())
    table = np.arange(120).reshape(20, 6) % 7 / 4
    arrays = {"table": table.astype(DType.BFLOAT16.numpy), "ids": np.array([0, 19, 7])}
    assert_same_results(before, after, arrays)


def test_a_weight_with_another_use_stays_plain() -> None:
    text = TIED.replace(
        "output y = %3", "%4 = neg %0 : f32[20, 6]\n  output y = %3\n  output z = %4"
    )
    assert packings(pack_weights(parse_graph(text)))["table"] is None


def test_a_weight_that_is_a_result_stays_plain() -> None:
    text = TIED.replace("output y = %3", "output y = %3\n  output z = %0")
    assert packings(pack_weights(parse_graph(text)))["table"] is None


def test_arguments_are_never_packed() -> None:
    text = TIED.replace('role="weight"', 'role="argument"')
    assert packings(pack_weights(parse_graph(text)))["table"] is None


def test_a_table_with_an_odd_row_is_not_shared_in_bfloat16() -> None:
    text = TIED.replace("f32", "bf16").replace("[20, 6]", "[20, 7]").replace("[n, 6]", "[n, 7]")
    assert packings(pack_weights(parse_graph(text)))["table"] is None


def test_the_stored_shape_is_the_one_the_micro_kernels_read() -> None:
    for dtype in (DType.FLOAT32, DType.BFLOAT16):
        for columns, depth in ((16, 32), (20, 33), (1, 1)):
            packed = packing.pack_linear(np.zeros((columns, depth), np.float32), dtype)
            assert panel_shape(columns, depth, dtype) == packed.shape


JOINED = """\
graph joined {
  %0 = input {name="x", packing=none, role="argument"} : f32[3, 8]
  %1 = input {name="a", packing=none, role="weight"} : f32[16, 8]
  %2 = input {name="b", packing=none, role="weight"} : f32[32, 8]
  %3 = concat %1, %2 {axis=0} : f32[48, 8]
  %4 = dot %0, %3 {dtype=f32, transpose_b=true} : f32[3, 48]
  output y = %4
}
"""


def joined_arrays(rows: int = 32) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"x": (3, 8), "a": (16, 8), "b": (rows, 8)}
    return {n: generator.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def test_weights_that_a_model_joins_itself_are_packed_one_behind_the_other() -> None:
    before = parse_graph(JOINED)
    after = pack_weights(before)
    assert packings(after) == {"x": None, "a": "panels", "b": "panels"}
    assert_same_results(before, after, joined_arrays())


def test_joined_weights_that_do_not_fill_their_panels_stay_plain() -> None:
    before = parse_graph(JOINED.replace("[32, 8]", "[10, 8]").replace("48", "26"))
    after = pack_weights(before)
    assert packings(after) == {"x": None, "a": None, "b": None}
    assert_same_results(before, after, joined_arrays(rows=10))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  output y", "  output w = %3\n  output y"),
        ("  output y", "  output w = %1\n  output y"),
        ("  output y", "  %5 = neg %2 : f32[32, 8]\n  output w = %5\n  output y"),
        ("concat %1, %2 {axis=0} : f32[48, 8]", "concat %1, %1, %1 {axis=0} : f32[48, 8]"),
        ("concat %1, %2 {axis=0} : f32[48, 8]", "concat %2, %1 {axis=0} : f32[48, 8]\n"
         "  %9 = concat %1, %2 {axis=0} : f32[48, 8]\n  output w = %9"),
    ],
)  # fmt: skip
def test_joined_weights_with_another_use_stay_plain(old: str, new: str) -> None:
    before = parse_graph(JOINED.replace(old, new))
    after = pack_weights(before)
    assert set(packings(after).values()) == {None}
    assert_same_results(before, after, joined_arrays())
