from pathlib import Path

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.passes.merge_linears import merge_linears
from banyan.compiler.passes.pipeline import lower
from banyan.devices.cpu import CpuDevice
from banyan.devices.native import Missing, find_compiler
from banyan.devices.thread_pool import open_thread_pool
from tests.compiler.comparing import assert_same_results
from tests.compiler.small_graphs import Weights

BEFORE = """\
graph attention {
  symbol t in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[t, 8]
  %1 = input {name="q", packing=none, role="weight"} : f32[32, 8]
  %2 = input {name="k", packing=none, role="weight"} : f32[16, 8]
  %3 = dot %0, %1 {dtype=f32, transpose_b=true} : f32[t, 32]
  %4 = reshape %3 {shape=([t], 2, 16)} : f32[t, 2, 16]
  %5 = dot %0, %2 {dtype=f32, transpose_b=true} : f32[t, 16]
  %6 = reshape %5 {shape=([t], 1, 16)} : f32[t, 1, 16]
  %7 = expand %6 {shape=([t], 2, 16)} : f32[t, 2, 16]
  %8 = mul %4, %7 : f32[t, 2, 16]
  output y = %8
}
"""

AFTER = """\
graph attention {
  symbol t in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[t, 8]
  %1 = input {name="q", packing=none, role="weight"} : f32[32, 8]
  %2 = input {name="k", packing=none, role="weight"} : f32[16, 8]
  %3 = concat %1, %2 {axis=0} : f32[48, 8]
  %4 = dot %0, %3 {dtype=f32, transpose_b=true} : f32[t, 48]
  %5 = slice %4 {axis=1, start=0, step=1, stop=32} : f32[t, 32]
  %6 = reshape %5 {shape=([t], 2, 16)} : f32[t, 2, 16]
  %7 = slice %4 {axis=1, start=32, step=1, stop=48} : f32[t, 16]
  %8 = reshape %7 {shape=([t], 1, 16)} : f32[t, 1, 16]
  %9 = expand %8 {shape=([t], 2, 16)} : f32[t, 2, 16]
  %10 = mul %6, %9 : f32[t, 2, 16]
  output y = %10
}
"""


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"x": (5, 8), "q": (32, 8), "k": (16, 8)}
    return {n: generator.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def test_linears_of_the_same_rows_become_one() -> None:
    assert print_graph(merge_linears(parse_graph(BEFORE))) == AFTER


def test_merged_linears_are_one_kernel_with_the_same_numbers() -> None:
    before = parse_graph(BEFORE)
    after = lower(before)
    joined = [node for node in after.nodes() if node.op == "concat"]
    assert [[arg.attr("name") for arg in node.args] for node in joined] == [["q", "k"]]
    assert [arg.attr("packing") for arg in joined[0].args] == ["panels", "panels"]
    assert_same_results(before, after, arrays())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("f32[16, 8]", "f32[12, 8]"),  # would not end at a panel's border
        ('name="k", packing=none, role="weight"', 'name="k", packing=none, role="argument"'),
        ("  output y", "  output k = %2\n  output y"),
        ("  output y", "  output plain = %5\n  output y"),
    ],
)
def test_linears_that_cannot_lie_behind_each_other_stay_apart(old: str, new: str) -> None:
    text = BEFORE.replace(old, new)
    if "12" in new:
        text = text.replace("16]", "12]").replace("[32, 8]", "[24, 8]").replace("t, 32]", "t, 24]")
        text = text.replace("2, 16)", "2, 12)").replace("1, 16)", "1, 12)")
    before = parse_graph(text)
    assert print_graph(merge_linears(before)) == print_graph(before)


def test_a_linear_with_an_epilogue_keeps_its_kernel() -> None:
    text = BEFORE.replace("= reshape %3", "= reshape %9").replace(
        "%4 =", "%9 = exp %3 : f32[t, 32]\n  %4 ="
    )
    before = parse_graph(text)
    assert all(node.op != "concat" for node in merge_linears(before).nodes())


def test_a_program_loads_joined_weights_one_by_one_and_again(tmp_path: Path) -> None:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    device = CpuDevice(2, lambda threads: open_thread_pool(threads, cache_directory=tmp_path))
    given = arrays()
    options = CompileOptions(tmp_path, optimise=False)
    for _ in range(2):  # built, then read from the cache
        program = compile_graph(parse_graph(BEFORE), device=device, options=options)
        assert [argument.name for argument in program.inputs] == ["x", "q", "k"]
        for factor in (1, 2):
            weights = {name: factor * given[name] for name in ("k", "q")}
            program.load_weights(Weights(weights))
            rows = given["x"]
            q = (rows @ weights["q"].T).reshape(5, 2, 16)
            k = (rows @ weights["k"].T).reshape(5, 1, 16)
            np.testing.assert_allclose(program.run({"x": rows})["y"], q * k, rtol=1e-5)
    device.close()
