"""Text in, text out, for constant factors that meet."""

import numpy as np
import pytest

from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.passes.fold_scales import fold_scales
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.targets.interpreter.run import run_graph
from tests.compiler.comparing import assert_same_results

TWICE = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[5]
  %1 = constant {dtype=f32, value=0.3} : f32[]
  %2 = expand %1 {shape=(5)} : f32[5]
  %3 = mul %0, %2 : f32[5]
  %4 = constant {dtype=f32, value=0.5} : f32[]
  %5 = expand %4 {shape=(5)} : f32[5]
  %6 = mul %3, %5 : f32[5]
  output y = %6
}
"""

ONCE = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[5]
  %1 = constant {dtype=f32, value=0.15} : f32[]
  %2 = expand %1 {shape=(5)} : f32[5]
  %3 = mul %0, %2 : f32[5]
  output y = %3
}
"""

ATTENTION = """\
graph whisper {
  %0 = input {name="x", packing=none, role="argument"} : bf16[7, 32]
  %1 = input {name="k", packing=none, role="argument"} : bf16[1, 2, 7, 16]
  %2 = constant {dtype=bf16, value=0.25} : bf16[]
  %3 = expand %2 {shape=(7, 32)} : bf16[7, 32]
  %4 = mul %0, %3 : bf16[7, 32]
  %5 = reshape %4 {shape=(1, 7, 2, 16)} : bf16[1, 7, 2, 16]
  %6 = permute %5 {order=(0, 2, 1, 3)} : bf16[1, 2, 7, 16]
  %7 = attention_forward %6, %1, %1 {causal=false, scale=1.0} : (bf16[1, 2, 7, 16], f32[1, 2, 7])
  %8 = get %7 {index=0} : bf16[1, 2, 7, 16]
  output y = %8
}
"""

FOLDED = """\
graph whisper {
  %0 = input {name="x", packing=none, role="argument"} : bf16[7, 32]
  %1 = input {name="k", packing=none, role="argument"} : bf16[1, 2, 7, 16]
  %2 = reshape %0 {shape=(1, 7, 2, 16)} : bf16[1, 7, 2, 16]
  %3 = permute %2 {order=(0, 2, 1, 3)} : bf16[1, 2, 7, 16]
  %4 = attention_forward %3, %1, %1 {causal=false, scale=0.25} : (bf16[1, 2, 7, 16], f32[1, 2, 7])
  %5 = get %4 {index=0} : bf16[1, 2, 7, 16]
  output y = %5
}
"""


def test_two_factors_become_one_where_the_product_stays_exact() -> None:
    before = parse_graph(TWICE)
    after = fold_scales(before)
    assert print_graph(after) == ONCE
    x = np.random.default_rng(0).standard_normal(5).astype(np.float32)
    np.testing.assert_array_equal(run_graph(after, {"x": x})["y"], run_graph(before, {"x": x})["y"])


def test_attention_applies_the_factor_of_its_queries() -> None:
    before = parse_graph(ATTENTION)
    after = fold_scales(before)
    assert print_graph(after) == FOLDED
    generator = np.random.default_rng(1)
    shapes = {"x": (7, 32), "k": (1, 2, 7, 16)}
    given = {
        n: generator.standard_normal(s).astype(before.inputs[0].dtype.numpy)
        for n, s in shapes.items()
    }
    np.testing.assert_array_equal(run_graph(after, given)["y"], run_graph(before, given)["y"])
    assert_same_results(before, lower(before), given)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (TWICE, "value=0.5", "value=0.7"),  # rounds otherwise than two products
        (TWICE, "value=0.5", "value=1e-30"),
        (ATTENTION, "value=0.25", "value=0.3"),
        (ATTENTION, "value=0.25", "value=-0.25"),
        (ATTENTION, "= mul", "= add"),
    ],
)
def test_factors_that_would_change_a_bit_stay(text: str, old: str, new: str) -> None:
    before = parse_graph(text.replace(old, new))
    assert print_graph(fold_scales(before)) == print_graph(before)


def test_half_precision_keeps_its_products() -> None:
    before = parse_graph(ATTENTION.replace("bf16", "f16"))
    assert print_graph(fold_scales(before)) == print_graph(before)
