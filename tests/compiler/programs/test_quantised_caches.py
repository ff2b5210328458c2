"""Quantised caches: what the formats cost, and that every target means the same by them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.ir.cached import CACHE_FORMATS, CacheFormat
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.tile import tile
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.settings import Settings
from tests.compiler.programs.paging import block_tables
from tests.compiler.programs.test_paged_attention import without_tiles

INT8, FP8, INT4 = (CACHE_FORMATS[name] for name in ("int8", "fp8", "int4"))
CONTEXT = 82
COSTS = {"int8": 0.02, "fp8": 0.06, "int4": 0.15}
"""The norm of the difference to exact attention, over rows of standard normal numbers."""


def quantized_graph(form: CacheFormat, heads: int, kv_heads: int, size: int) -> Graph:
    """New rows go into a quantised cache, then queries attend over it."""
    builder = Builder()
    tokens, sequences = symbol("tokens", 1, 256), symbol("sequences", 1, 8)
    blocks = symbol("blocks", 1, 64)
    shapes = {
        "keys": form.key_shape(kv_heads, size),
        "values": form.value_shape(kv_heads, size),
    }
    scale = TensorType((blocks, *form.scale_shape(kv_heads)), DType.FLOAT32)
    queries = builder.input("queries", TensorType((tokens, heads, size), DType.BFLOAT16))
    where = [
        builder.input("tables", TensorType((sequences, symbol("columns", 1, 64)), DType.INT32)),
        builder.input("starts", TensorType((sequences + 1,), DType.INT32)),
        builder.input("lengths", TensorType((sequences,), DType.INT32)),
    ]
    slots = builder.input("slots", TensorType((tokens,), DType.INT64))
    inputs, outputs, found = [queries, *where, slots], [], []
    for layout, shape in shapes.items():
        state = (
            builder.input(layout, TensorType((blocks, *shape), form.dtype), "state"),
            builder.input(f"{layout}_scales", scale, "state"),
        )
        rows = builder.input(f"new_{layout}", TensorType((tokens, kv_heads, size), DType.BFLOAT16))
        node = builder.add("cache_write_quantized", (*state, rows, slots), layout=layout)
        written = [builder.add("get", (node,), index=i) for i in range(2)]
        inputs += [*state, rows]
        outputs += [
            Output(f"written {s.attr('name')}", w, str(s.attr("name")))
            for s, w in zip(state, written, strict=True)
        ]
        found.append(written)
    (keys, key_scales), (values, value_scales) = found
    arguments = (queries, keys, values, *where, key_scales, value_scales)
    result = builder.add("paged_attention", arguments, scale=0.25, window=0)
    return Graph("quantized", tuple(inputs), (Output("out", result), *outputs))


def quantized_arrays(form: CacheFormat, kv_heads: int, size: int, context: int) -> dict[str, Any]:
    """A whole prompt in one step, over blocks where another sequence left its worst.

    Its last two tokens are a tile of few rows.
    """
    generator = np.random.default_rng(3)
    tables = block_tables([context], 24)
    position = np.arange(context)
    rows = {
        n: generator.normal(size=(context, kv_heads, size)).astype(DType.BFLOAT16.numpy)
        for n in ("k", "v")
    }
    return {
        "queries": generator.normal(size=(context, 2 * kv_heads, size)).astype(
            DType.BFLOAT16.numpy
        ),
        "tables": tables,
        "starts": np.array([0, context], np.int32),
        "lengths": np.array([context], np.int32),
        "slots": tables[0, position // 16].astype(np.int64) * 16 + position % 16,
        "keys": np.full((24, *form.key_shape(kv_heads, size)), 126, np.int8).view(form.dtype.numpy),
        "values": np.full((24, *form.value_shape(kv_heads, size)), 126, np.int8).view(
            form.dtype.numpy
        ),
        "keys_scales": np.full((24, *form.scale_shape(kv_heads)), np.nan, np.float32),
        "values_scales": np.full((24, *form.scale_shape(kv_heads)), np.nan, np.float32),
        "new_keys": rows["k"],
        "new_values": rows["v"],
    }


@pytest.mark.parametrize(
    ("form", "kv_heads", "size"),
    [
        pytest.param(INT8, 1, 32, marks=pytest.mark.wide),
        (INT8, 4, 32),
        pytest.param(FP8, 4, 32, marks=pytest.mark.wide),
        (FP8, 1, 40),
        (INT4, 4, 64),
        pytest.param(INT4, 1, 32, marks=pytest.mark.wide),
        pytest.param(INT4, 1, 40, marks=pytest.mark.wide),
    ],
)
def test_a_quantised_cache_costs_little_and_means_the_same_everywhere(
    form: CacheFormat, kv_heads: int, size: int, tmp_path: Path
) -> None:
    graph = quantized_graph(form, 2 * kv_heads, kv_heads, size)
    arrays = quantized_arrays(form, kv_heads, size, CONTEXT)
    wanted = run_graph(graph, arrays)
    queries, keys, values = (
        np.asarray(arrays[n], np.float32) for n in ("queries", "new_keys", "new_values")
    )
    keys, values = (np.repeat(x, 2, axis=1) for x in (keys, values))
    scores = np.einsum("qhd,khd->hqk", queries, keys) * 0.25
    scores = np.where(np.tri(CONTEXT, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    exact = np.einsum("hqk,khd->qhd", weights, values)
    difference = np.asarray(wanted["out"], np.float32) - exact
    assert np.linalg.norm(difference) < COSTS[form.name] * np.linalg.norm(exact)
    lowered = run_graph(tile(graph), arrays)
    for name in ("out", "written keys", "written values_scales"):
        ours, theirs = (np.asarray(r[name], np.float32) for r in (lowered, wanted))
        np.testing.assert_allclose(ours, theirs, atol=3e-2)
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    device = find_device("cpu", settings=Settings(cache_directory=tmp_path), num_threads=2)
    options = CompileOptions(tmp_path, optimise=False, instruction_set=without_tiles())
    program = compile_graph(graph, device=device, options=options)
    program.allocate_state({"blocks": 24})
    states = [a.name for a in program.inputs if a.role == "state"]
    for name in states:
        program.write_state(name, arrays[name])
    given = {name: array for name, array in arrays.items() if name not in states}
    found = np.asarray(program.run(given)["out"], np.float32)
    np.testing.assert_allclose(found, np.asarray(wanted["out"], np.float32), atol=3e-2)
    # The last token alone has the same bits, and a broken query spoils its own rows only.
    news = ("queries", "new_keys", "new_values", "slots")
    alone = {name: array[-1:] if name in news else array for name, array in given.items()}
    alone["starts"] = np.array([0, 1], np.int32)
    np.testing.assert_array_equal(np.asarray(program.run(alone)["out"], np.float32)[0], found[-1])
    alone["queries"] = alone["queries"].copy()
    alone["queries"][0, 1, 5] = np.inf
    spoiled = np.asarray(program.run(alone)["out"], np.float32)[0]
    np.testing.assert_array_equal(np.delete(spoiled, 1, 0), np.delete(found[-1], 1, 0))
    assert np.isnan(spoiled[1]).all()
    device.close()
