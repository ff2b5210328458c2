"""Tables of positions are computed once in a run, however many layers ask for them."""

import numpy as np

from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.passes.simplify import simplify
from tests.compiler.comparing import assert_same_results

TABLE = """\
  %{0} = expand %1 {{shape=([t], 8)}} : f32[t, 8]
  %{1} = expand %2 {{shape=([t], 8)}} : f32[t, 8]
  %{2} = mul %{0}, %{1} : f32[t, 8]
  %{3} = cos %{2} : f32[t, 8]
"""
LAYER = """\
  %{1} = mul %{0}, %{2} : f32[t, 8]
  %{3} = reduce %{1} {{axes=(0), kind="sum"}} : f32[8]
  %{4} = expand %{3} {{shape=([t], 8)}} : f32[t, 8]
  %{5} = add %{1}, %{4} : f32[t, 8]
"""
TEXT = (
    """\
graph two_layers {
  symbol t in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[t, 8]
  %1 = input {name="positions", packing=none, role="argument"} : f32[t, 1]
  %2 = input {name="frequencies", packing=none, role="weight"} : f32[8]
"""
    + TABLE.format(3, 4, 5, 6)
    + LAYER.format(0, 7, 6, 8, 9, 10)
    + TABLE.format(11, 12, 13, 14)
    + LAYER.format(10, 15, 14, 16, 17, 18)
    + "  output y = %18\n}\n"
)


def test_layers_share_the_table_that_each_of_them_computes() -> None:
    before = parse_graph(TEXT)
    assert TEXT.count("cos") == 2
    assert print_graph(simplify(before)).count(" = cos ") == 1
    after = lower(before)
    (table,) = (
        line for line in print_graph(after).splitlines() if "kernel @" in line and "_cos" in line
    )
    assert table.strip() == "kernel @0 row_cos_0 grid (t) {"
    calls = [node for node in after.nodes() if node.op == "call"]
    made = [node for node in after.nodes() if node.op == "get" and node.args[0] is calls[0]]
    assert sum(made[0] in call.args for call in calls) >= 2
    generator = np.random.default_rng(0)
    shapes = {"x": (5, 8), "positions": (5, 1), "frequencies": (8,)}
    given = {n: generator.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    assert_same_results(before, after, given)
