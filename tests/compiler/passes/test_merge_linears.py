from pathlib import Path

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.quantized import STORED
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.merge_linears import merge_linears
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.targets.interpreter.run import run_graph
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


def test_a_program_loads_joined_weights_one_by_one_and_again(fresh_cache: Path) -> None:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    device = CpuDevice(2, lambda threads: open_thread_pool(threads, cache_directory=fresh_cache))
    given = arrays()
    options = CompileOptions(fresh_cache, optimise=False)
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


WITH_BIASES = """\
graph attention {
  symbol t in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : bf16[t, 8]
  %1 = input {name="q", packing=none, role="weight"} : bf16[32, 8]
  %2 = input {name="q.bias", packing=none, role="weight"} : bf16[32]
  %3 = input {name="k", packing=none, role="weight"} : bf16[16, 8]
  %4 = input {name="v", packing=none, role="weight"} : bf16[16, 8]
  %5 = input {name="v.bias", packing=none, role="weight"} : bf16[16]
  %6 = dot %0, %1 {dtype=f32, transpose_b=true} : f32[t, 32]
  %7 = cast %2 {dtype=f32} : f32[32]
  %8 = expand %7 {shape=([t], 32)} : f32[t, 32]
  %9 = add %6, %8 : f32[t, 32]
  %10 = cast %9 {dtype=bf16} : bf16[t, 32]
  %11 = dot %0, %3 {dtype=bf16, transpose_b=true} : bf16[t, 16]
  %12 = dot %0, %4 {dtype=f32, transpose_b=true} : f32[t, 16]
  %13 = cast %5 {dtype=f32} : f32[16]
  %14 = expand %13 {shape=([t], 16)} : f32[t, 16]
  %15 = add %12, %14 : f32[t, 16]
  %16 = cast %15 {dtype=bf16} : bf16[t, 16]
  %17 = concat %16, %11, %10 {axis=1} : bf16[t, 64]
  output y = %17
}
"""

BIASES_JOINED = """\
  %6 = concat %4, %1, %3 {axis=0} : bf16[64, 8]
  %7 = dot %0, %6 {dtype=f32, transpose_b=true} : f32[t, 64]
  %8 = concat %5, %2 {axis=0} : bf16[48]
  %9 = pad %8 {axis=0, high=16, low=0, value=0.0} : bf16[64]
  %10 = cast %9 {dtype=f32} : f32[64]
  %11 = expand %10 {shape=([t], 64)} : f32[t, 64]
  %12 = add %7, %11 : f32[t, 64]
  %13 = cast %12 {dtype=bf16} : bf16[t, 64]
  %14 = slice %13 {axis=1, start=0, step=1, stop=16} : bf16[t, 16]
  %15 = slice %13 {axis=1, start=48, step=1, stop=64} : bf16[t, 16]
  %16 = slice %13 {axis=1, start=16, step=1, stop=48} : bf16[t, 32]
  %17 = concat %14, %15, %16 {axis=1} : bf16[t, 64]
  output y = %17
}
"""


def biased_arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    matrices = {"x": (5, 8), "q": (32, 8), "k": (16, 8), "v": (16, 8)}
    shapes: dict[str, tuple[int, ...]] = {**matrices, "q.bias": (32,), "v.bias": (16,)}
    kind = DType.BFLOAT16.numpy
    return {n: generator.standard_normal(s).astype(kind) for n, s in shapes.items()}


def test_biases_are_joined_and_who_has_none_comes_last() -> None:
    before = parse_graph(WITH_BIASES)
    merged = print_graph(merge_linears(before))
    assert merged.endswith(BIASES_JOINED)
    assert merged.count('packing="as_it_is"') == 2
    after = lower(before)
    kernels = [node for node in after.nodes() if node.op == "call"]
    assert len(kernels) == 2  # the product with its biases, and the reordering of its columns
    assert_same_results(before, after, biased_arrays())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"v.bias", packing=none, role="weight"', '"v.bias", packing=none, role="argument"'),
        ("  output y", "  output bias = %5\n  output y"),
        ("  output y", "  output wide = %15\n  output y"),
        ("%15 = add %12", "%15 = sub %12"),
    ],
)
def test_what_is_no_bias_of_its_own_keeps_its_linear_apart(old: str, new: str) -> None:
    before = parse_graph(WITH_BIASES.replace(old, new))
    merged = merge_linears(before)
    joined = [node for node in merged.nodes() if node.op == "concat" and node.attr("axis") == 0]
    assert [[arg.attr("name") for arg in node.args] for node in joined] == [["q", "k"]]
    assert_same_results(before, lower(before), biased_arrays())


QUANTISED = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[3, 64]
  %1 = input {name="a", packing="quantized_nibbles", role="weight"} : u8[2, 8, 256]
  %2 = input {name="a.scales", packing="quantized_columns:1", role="weight"} : f32[2, 2, 64]
  %3 = input {name="b", packing="quantized_nibbles", role="weight"} : u8[1, 8, 256]
  %4 = input {name="b.scales", packing="quantized_columns:1", role="weight"} : f32[1, 2, 64]
  %5 = quantize_rows %0 {group=32} : i8[3, 128]
  %6 = quantized_dot %5, %1, %2 {activation="int8", columns=128, depth=64, dtype=f32, format="int4", group=32} : f32[3, 128]
  %7 = quantized_dot %5, %3, %4 {activation="int8", columns=64, depth=64, dtype=f32, format="int4", group=32} : f32[3, 64]
  output y = %8
}
"""  # noqa: E501

QUANTISED_JOINED = """\
  %5 = quantize_rows %0 {group=32} : i8[3, 128]
  %6 = concat %1, %3 {axis=0} : u8[3, 8, 256]
  %7 = concat %2, %4 {axis=0} : f32[3, 2, 64]
  %8 = quantized_dot %5, %6, %7 {activation="int8", columns=192, depth=64, dtype=f32, format="int4", group=32} : f32[3, 192]
  %9 = slice %8 {axis=1, start=0, step=1, stop=128} : f32[3, 128]
  %10 = slice %8 {axis=1, start=128, step=1, stop=192} : f32[3, 64]
  %11 = concat %9, %10 {axis=1} : f32[3, 192]
  output y = %11
}
"""  # noqa: E501


def test_quantised_linears_are_joined_with_their_scales() -> None:
    text = QUANTISED.replace("  output", "  %8 = concat %6, %7 {axis=1} : f32[3, 192]\n  output")
    assert print_graph(merge_linears(parse_graph(text))).endswith(QUANTISED_JOINED)
    short = text.replace("columns=64", "columns=60").replace("f32[3, 64]\n  %8", "f32[3, 60]\n  %8")
    short = short.replace("f32[3, 192]", "f32[3, 188]")
    before = parse_graph(short)
    assert print_graph(merge_linears(before)) == print_graph(before)


@pytest.mark.parametrize("layout", ["int8", "int4", "fp8"])
def test_a_program_reads_joined_quantised_weights(layout: str, program_cache: Path) -> None:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    builder = Builder()
    rows = builder.input("x", TensorType((3, 64), DType.FLOAT32))
    stored, width = STORED[layout], 32 if layout == "int4" else 64
    generator = np.random.default_rng(3)
    given: dict[str, np.ndarray] = {
        "x": generator.standard_normal((3, 64)).astype(np.float32),
    }
    inputs, outputs = [rows], []
    for name, columns in (("q", 128), ("k", 64)):
        weight = builder.input(name, TensorType((columns, width), stored), "weight")
        kind = TensorType((columns, 2), DType.FLOAT32)
        scales = builder.input(f"{name}.scales", kind, "weight")
        linear = builder.add(
            "quantized_linear",
            (rows, weight, scales),
            format=layout,
            group=32,
            rows=1,
            activation="plain",
            dtype=DType.FLOAT32,
        )
        outputs.append(-linear.reshape((3, columns // 32, 32)))
        inputs += [weight, scales]
        given[name] = generator.integers(0, 100, (columns, width)).astype(stored.numpy)
        given[f"{name}.scales"] = generator.random((columns, 2)).astype(np.float32)
    graph = Graph("g", tuple(inputs), tuple(Output(f"y{i}", y) for i, y in enumerate(outputs)))
    device = CpuDevice(2, lambda threads: open_thread_pool(threads, cache_directory=program_cache))
    options = CompileOptions(program_cache, optimise=False)
    program = compile_graph(graph, device=device, options=options)
    assert program.report.num_launches == 3  # one product, and what is made of each part
    program.load_weights(Weights(given))
    found, wanted = program.run({"x": given["x"]}), run_graph(graph, given)
    for name in ("y0", "y1"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-3)
    device.close()
