from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.passes.fuse import plan_fusion

HEAD = """\
graph g {
  symbol t in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[t, 8]
  %1 = input {name="w", packing=none, role="argument"} : f32[8, 8]
"""


def graph(body: str) -> Graph:
    return parse_graph(HEAD + body + "}\n")


def roots(body: str) -> list[str]:
    """Operations of the values that lie in memory, in order."""
    found = graph(body)
    memory = plan_fusion(found).memory
    return [node.op for node in found.nodes() if node in memory and node.op != "input"]


def test_pointwise_chains_lie_in_memory_once() -> None:
    body = """
  %2 = neg %0 : f32[t, 8]
  %3 = exp %2 : f32[t, 8]
  %4 = abs %3 : f32[t, 8]
  output y = %4
"""
    assert roots(body) == ["abs"]


def test_a_costly_value_with_two_readers_is_kept() -> None:
    body = """
  %2 = exp %0 : f32[t, 8]
  %3 = neg %2 : f32[t, 8]
  %4 = reduce %2 {axes=(0), kind="sum"} : f32[8]
  output y = %3
  output z = %4
"""
    assert roots(body) == ["exp", "neg", "reduce"]


def test_a_cheap_value_with_two_readers_is_computed_twice() -> None:
    body = """
  %2 = neg %0 : f32[t, 8]
  %3 = exp %2 : f32[t, 8]
  %4 = abs %2 : f32[t, 8]
  output y = %3
  output z = %4
"""
    assert roots(body) == ["exp", "abs"]


def test_a_product_draws_in_what_follows_it() -> None:
    body = """
  %2 = dot %0, %1 {dtype=f32, transpose_b=true} : f32[t, 8]
  %3 = sigmoid %2 : f32[t, 8]
  %4 = mul %2, %3 : f32[t, 8]
  %5 = add %4, %0 : f32[t, 8]
  output y = %5
"""
    assert roots(body) == ["add"]
    found = plan_fusion(graph(body))
    assert [(root.op, product.op) for root, product in found.products.items()] == [("add", "dot")]


def test_of_two_products_that_meet_one_draws_in_the_meeting() -> None:
    body = """
  %2 = dot %0, %1 {dtype=f32, transpose_b=true} : f32[t, 8]
  %3 = dot %0, %1 {dtype=f32, transpose_b=false} : f32[t, 8]
  %4 = mul %2, %3 : f32[t, 8]
  output y = %4
"""
    assert sorted(roots(body)) == ["dot", "mul"]


def test_a_widened_result_is_written_narrow() -> None:
    body = """
  %2 = dot %0, %1 {dtype=bf16, transpose_b=true} : bf16[t, 8]
  %3 = cast %2 {dtype=f32} : f32[t, 8]
  %4 = reduce %3 {axes=(1), kind="sum"} : f32[t]
  output y = %4
"""
    assert roots(body) == ["dot", "reduce"]


def test_a_norm_is_one_kernel() -> None:
    body = """
  %2 = mul %0, %0 : f32[t, 8]
  %3 = reduce %2 {axes=(1), kind="sum"} : f32[t]
  %4 = reshape %3 {shape=([t], 1)} : f32[t, 1]
  %5 = rsqrt %4 : f32[t, 1]
  %6 = expand %5 {shape=([t], 8)} : f32[t, 8]
  %7 = mul %0, %6 : f32[t, 8]
  output y = %7
"""
    assert roots(body) == ["mul"]


def test_a_reduction_that_every_row_needs_is_computed_once() -> None:
    body = """
  %2 = reduce %0 {axes=(0), kind="max"} : f32[8]
  %3 = expand %2 {shape=([t], 8)} : f32[t, 8]
  %4 = sub %0, %3 : f32[t, 8]
  output y = %4
"""
    assert roots(body) == ["reduce", "sub"]


def test_a_softmax_between_two_products_stays_in_their_kernel() -> None:
    body = """
  %2 = dot %0, %1 {dtype=f32, transpose_b=true} : f32[t, 8]
  %3 = reduce %2 {axes=(1), kind="max"} : f32[t]
  %4 = reshape %3 {shape=([t], 1)} : f32[t, 1]
  %5 = expand %4 {shape=([t], 8)} : f32[t, 8]
  %6 = sub %2, %5 : f32[t, 8]
  %7 = exp %6 : f32[t, 8]
  %8 = dot %7, %1 {dtype=f32, transpose_b=true} : f32[t, 8]
  output y = %8
"""
    assert roots(body) == ["dot"]


def test_very_long_chains_are_cut() -> None:
    lines = [f"  %{i} = neg %{i - 1 if i > 2 else 0} : f32[t, 8]" for i in range(2, 202)]
    assert len(roots("\n".join(lines) + "\n  output y = %201\n")) == 4


SHARED = """
  %2 = exp %0 : f32[t, 8]
  %3 = neg %2 : f32[t, 8]
  %4 = abs %2 : f32[t, 8]
"""


def test_results_of_one_shape_that_share_costly_work_share_a_kernel() -> None:
    found = plan_fusion(graph(SHARED + "  output y = %3\n  output z = %4\n"))
    (family,) = set(found.siblings.values())
    assert [node.op for node in family] == ["neg", "abs"]
    assert "exp" not in {node.op for node in found.memory}


def test_a_result_that_needs_its_sibling_first_gets_a_kernel_of_its_own() -> None:
    body = (
        SHARED
        + """
  %5 = reduce %3 {axes=(0), kind="sum"} : f32[8]
  %6 = expand %5 {shape=([t], 8)} : f32[t, 8]
  %7 = add %4, %6 : f32[t, 8]
  output y = %3
  output z = %7
"""
    )
    assert plan_fusion(graph(body)).siblings == {}
    assert "exp" in roots(body)
