"""Text in, text out, for each rule of the simplify pass."""

import numpy as np
import pytest
from hypothesis import given, settings

from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.verify import verify
from banyan.compiler.passes.simplify import simplify
from banyan.compiler.targets.interpreter import run_graph
from tests.compiler.ir.equality import same_graph
from tests.compiler.random_graphs import cases
from tests.compiler.random_values import Case

HEAD = """graph g {
  symbol T in [1, 16]
  %0 = input {name="x", packing=none, role="argument"} : f32[T, 6]
"""


def graph(body: str) -> Graph:
    return verify(parse_graph(HEAD + body + "}\n"))


CASES = {
    "a cast to the same type goes": (
        "%1 = cast %0 {dtype=f32} : f32[T, 6]\n output y = %1\n",
        "output y = %0\n",
    ),
    "a run of reshapes becomes one": (
        "%1 = reshape %0 {shape=([T], 2, 3)} : f32[T, 2, 3]\n"
        "%2 = reshape %1 {shape=([T], 3, 2)} : f32[T, 3, 2]\n output y = %2\n",
        "%1 = reshape %0 {shape=([T], 3, 2)} : f32[T, 3, 2]\n output y = %1\n",
    ),
    "a permute and its inverse cancel": (
        "%1 = permute %0 {order=(1, 0)} : f32[6, T]\n"
        "%2 = permute %1 {order=(1, 0)} : f32[T, 6]\n output y = %2\n",
        "output y = %0\n",
    ),
    "a slice of everything goes": (
        "%1 = slice %0 {axis=1, start=0, step=1, stop=6} : f32[T, 6]\n output y = %1\n",
        "output y = %0\n",
    ),
    "a product with one goes": (
        "%1 = constant {dtype=f32, value=1.0} : f32[]\n"
        "%2 = expand %1 {shape=([T], 6)} : f32[T, 6]\n"
        "%3 = mul %0, %2 : f32[T, 6]\n output y = %3\n",
        "output y = %0\n",
    ),
    "a float division by one that rounds down stays": (
        "%1 = constant {dtype=f32, value=1.0} : f32[]\n"
        "%2 = expand %1 {shape=([T], 6)} : f32[T, 6]\n"
        "%3 = floordiv %0, %2 : f32[T, 6]\n output y = %3\n",
        None,
    ),
    "a whole number outside its type goes around": (
        "%1 = constant {dtype=u8, value=-3} : u8[]\n"
        "%2 = constant {dtype=u8, value=2} : u8[]\n"
        "%3 = add %1, %2 : u8[]\n output y = %3\n",
        "%1 = constant {dtype=u8, value=255} : u8[]\n output y = %1\n",
    ),
    "a float sum with zero stays, for minus zero": (
        "%1 = constant {dtype=f32, value=0.0} : f32[]\n"
        "%2 = expand %1 {shape=([T], 6)} : f32[T, 6]\n"
        "%3 = add %0, %2 : f32[T, 6]\n output y = %3\n",
        None,
    ),
    "arithmetic of constants is done now": (
        "%1 = constant {dtype=f32, value=2.0} : f32[]\n"
        "%2 = sqrt %1 : f32[]\n %3 = expand %2 {shape=([T], 6)} : f32[T, 6]\n"
        "%4 = mul %0, %3 : f32[T, 6]\n output y = %4\n",
        "%1 = constant {dtype=f32, value=1.4142135381698608} : f32[]\n"
        "%2 = expand %1 {shape=([T], 6)} : f32[T, 6]\n"
        "%3 = mul %0, %2 : f32[T, 6]\n output y = %3\n",
    ),
    "two negations cancel": (
        "%1 = neg %0 : f32[T, 6]\n %2 = neg %1 : f32[T, 6]\n output y = %2\n",
        "output y = %0\n",
    ),
    "a run of expands becomes one": (
        "%1 = reshape %0 {shape=([T], 1, 6)} : f32[T, 1, 6]\n"
        "%2 = expand %1 {shape=([T], 2, 6)} : f32[T, 2, 6]\n"
        "%3 = expand %2 {shape=(3, [T], 2, 6)} : f32[3, T, 2, 6]\n output y = %3\n",
        "%1 = reshape %0 {shape=([T], 1, 6)} : f32[T, 1, 6]\n"
        "%2 = expand %1 {shape=(3, [T], 2, 6)} : f32[3, T, 2, 6]\n output y = %2\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_turns_this_text_into_that(name: str) -> None:
    before, after = CASES[name]
    simplified = verify(simplify(graph(before)))
    assert same_graph(simplified, graph(before if after is None else after))


@pytest.mark.parametrize("name", CASES)
def test_a_rule_keeps_every_number(name: str) -> None:
    before = graph(CASES[name][0])
    x = np.random.default_rng(7).standard_normal((5, 6)).astype(np.float32)
    x[0, 0] = -0.0
    expected = run_graph(before, {"x": x})["y"]
    result = run_graph(simplify(before), {"x": x})["y"]
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(np.signbit(result), np.signbit(expected))


@settings(max_examples=60, deadline=None)
@given(cases(with_bfloat16=False))
def test_random_graphs_keep_every_number(case: Case) -> None:
    expected = run_graph(case.graph, case.arrays)
    result = run_graph(verify(simplify(case.graph)), case.arrays)
    for name, array in expected.items():
        np.testing.assert_array_equal(result[name], array)
