"""Each shape and index operation inside a kernel, through the pass that calls the rules."""

from typing import Any

import numpy as np
import pytest

from banyan.compiler.ir.graph import Graph, Kernel
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.passes.tile import tile
from banyan.compiler.tiling.options import TileOptions
from tests.compiler.comparing import assert_same_results

HEAD = """graph g {
  symbol n in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[n, 6]
  %1 = input {name="i", packing=none, role="argument"} : i64[n, 2]
  %2 = input {name="j", packing=none, role="argument"} : i32[3]
"""
ARRAYS: dict[str, Any] = {
    "x": np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32),
    "i": np.array([[0, 5], [3, 3], [1, 2], [4, 0]]),
    "j": np.array([2, 0, 5], np.int32),
}

BODIES = {
    "slice with a step": "%3 = slice %0 {axis=1, start=1, step=2, stop=6} : f32[n, 3]",
    "slice of a row": "%3 = slice %0 {axis=0, start=0, step=1, stop=1} : f32[1, 6]",
    "permute": "%3 = permute %0 {order=(1, 0)} : f32[6, n]",
    "pad of columns": "%3 = pad %0 {axis=1, high=1, low=2, value=0.5} : f32[n, 9]",
    "pad of rows": "%3 = pad %0 {axis=0, high=1, low=2, value=0.5} : f32[n + 3, 6]",
    "concat of rows": "%3 = concat %0, %0 {axis=0} : f32[2 * n, 6]",
    "concat of columns": "%3 = concat %0, %0 {axis=1} : f32[n, 12]",
    "gather of columns": "%3 = gather %0, %2 {axis=1} : f32[n, 3]",
    "gather of columns by rows of indices": "%3 = gather %0, %1 {axis=1} : f32[n, n, 2]",
    "take along the last axis": "%3 = take_along %0, %1 {axis=1} : f32[n, 2]",
    "reshape that crosses rows": (
        "%3 = slice %0 {axis=1, start=0, step=1, stop=4} : f32[n, 4]\n"
        "  %4 = reshape %3 {shape=([2 * n], 2)} : f32[2 * n, 2]\n"
        "  %5 = neg %4 : f32[2 * n, 2]"
    ),
    "iota of 32 bits": "%3 = iota {dtype=i32, size=[n]} : i32[n]",
    "size": "%3 = size {dim=[n]} : i64[]",
    "constant": "%3 = constant {dtype=f32, value=2.5} : f32[]",
    "expand of a column": (
        "%3 = slice %0 {axis=1, start=2, step=1, stop=3} : f32[n, 1]\n"
        "  %4 = expand %3 {shape=([n], 5)} : f32[n, 5]"
    ),
    "reduction of a permutation": (
        "%3 = permute %0 {order=(1, 0)} : f32[6, n]\n"
        '  %4 = reduce %3 {axes=(1), kind="max"} : f32[6]'
    ),
    "concat inside a reduction": (
        '%3 = concat %0, %0 {axis=1} : f32[n, 12]\n  %4 = reduce %3 {axes=(1), kind="sum"} : f32[n]'
    ),
    "pad of a slice inside a reduction": (
        "%3 = slice %0 {axis=1, start=1, step=1, stop=3} : f32[n, 2]\n"
        "  %4 = pad %3 {axis=1, high=1, low=1, value=7.0} : f32[n, 4]\n"
        '  %5 = reduce %4 {axes=(1), kind="sum"} : f32[n]'
    ),
    "largest of a column": '%3 = reduce %0 {axes=(0), kind="argmax"} : i64[6]',
    "largest of a row": '%3 = reduce %0 {axes=(1), kind="argmax"} : i64[n]',
    "all kinds over rows": (
        '%3 = reduce %0 {axes=(0), kind="prod"} : f32[6]\n'
        '  %4 = reduce %0 {axes=(0), kind="min"} : f32[6]\n'
        "  %5 = add %3, %4 : f32[6]"
    ),
    "integers over rows": (
        '%3 = reduce %1 {axes=(0), kind="max"} : i64[2]\n'
        '  %4 = reduce %1 {axes=(0), kind="min"} : i64[2]\n'
        "  %5 = sub %3, %4 : i64[2]"
    ),
    "everything": '%3 = reduce %0 {axes=(0, 1), kind="sum"} : f32[]',
    "running sum of rows": "%3 = cumsum %0 {axis=1} : f32[n, 6]",
    "running sum behind a shift": (
        "%3 = cumsum %0 {axis=1} : f32[n, 6]\n"
        "  %4 = slice %3 {axis=1, start=1, step=1, stop=5} : f32[n, 4]"
    ),
    "product of slices": (
        "%3 = slice %0 {axis=1, start=0, step=1, stop=3} : f32[n, 3]\n"
        "  %4 = slice %0 {axis=1, start=3, step=1, stop=6} : f32[n, 3]\n"
        "  %5 = dot %3, %4 {dtype=f32, transpose_b=true} : f32[n, n]"
    ),
    "product with a permuted left side": (
        "%3 = permute %0 {order=(1, 0)} : f32[6, n]\n"
        "  %4 = dot %3, %0 {dtype=f32, transpose_b=false} : f32[6, 6]"
    ),
    "product whose left side is gathered": (
        "%3 = gather %0, %2 {axis=1} : f32[n, 3]\n"
        "  %4 = dot %3, %3 {dtype=f32, transpose_b=true} : f32[n, n]"
    ),
}


def graph(body: str) -> Graph:
    last = body.rsplit("\n", 1)[-1].split(maxsplit=1)[0]
    return parse_graph(f"{HEAD}  {body}\n  output y = {last}\n}}\n")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize(
    "options", [TileOptions(), TileOptions(3, 1, 2, 3, 4, 3)], ids=["", "small"]
)
def test_on_tiles_it_means_what_it_means_on_tensors(body: str, options: TileOptions) -> None:
    before = graph(body)
    assert_same_results(before, tile(before, options), ARRAYS)


def test_a_product_of_a_symbolic_row_is_cut_into_blocks() -> None:
    (call,) = [n for n in tile(graph(BODIES["product of slices"])).nodes() if n.op == "call"]
    kernel = call.attr("kernel")
    assert isinstance(kernel, Kernel)
    assert [effect.op for effect in kernel.body.effects] == ["bind", "bind", "store"]
    assert [str(size) for size in kernel.grid] == ["((n + 31) // 32)", "((n + 63) // 64)"]
