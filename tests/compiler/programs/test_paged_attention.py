from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from banyan.compiler.capture import torch_operations
from banyan.compiler.capture.arrays import to_array, to_tensor
from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.tile import tile
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.devices.discovery import find_device
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.settings import Settings
from tests.compiler.programs.paging import block_tables, pack_width, random_caches

NAMES = ("queries", "keys", "values", "tables", "starts", "lengths")


def attention_graph(
    heads: int, kv_heads: int, size: int, dtype: DType, window: int, columns: int = 64
) -> Graph:
    builder = Builder()
    tokens, sequences = symbol("tokens", 1, 64), symbol("sequences", 1, 8)
    blocks, width = symbol("blocks", 1, 2048), pack_width(dtype)
    types = (
        TensorType((tokens, heads, size), dtype),
        TensorType((blocks, kv_heads, size // width, 16, width), dtype),
        TensorType((blocks, kv_heads, 16 // width, size, width), dtype),
        TensorType((sequences, symbol("columns", 1, columns)), DType.INT32),
        TensorType((sequences + 1,), DType.INT32),
        TensorType((sequences,), DType.INT32),
    )
    inputs = tuple(builder.input(n, t) for n, t in zip(NAMES, types, strict=True))
    node = builder.add("paged_attention", inputs, scale=0.25, window=window)
    return Graph("attention", inputs, (Output("out", node),))


def step(
    new: list[int],
    contexts: list[int],
    heads: int,
    kv_heads: int,
    dtype: DType,
    size: int = 8,
    *,
    num_blocks: int = 24,
) -> dict[str, Any]:
    generator = np.random.default_rng(7)
    keys, values = random_caches(generator, num_blocks, kv_heads, size, dtype)
    queries = generator.normal(size=(sum(new), heads, size)).astype(dtype.numpy)
    starts = np.cumsum([0, *new]).astype(np.int32)
    tables = block_tables(contexts, num_blocks)
    lengths = np.array(contexts, np.int32)
    return dict(zip(NAMES, (queries, keys, values, tables, starts, lengths), strict=True))


def pytorch_result(arrays: dict[str, Any], window: int) -> Any:
    tensors = [to_tensor(arrays[name]) for name in NAMES]
    found = torch_operations.paged_attention(*tensors, 0.25, window)
    assert isinstance(found, torch.Tensor)
    return to_array(found)


@pytest.mark.parametrize("window", [0, 1, 7, 40])
def test_prefill_and_decode_in_one_step_agree_with_pytorch(window: int) -> None:
    new, contexts = [1, 33, 1, 5], [70, 33, 1, 21]
    arrays = step(new, contexts, 4, 2, DType.FLOAT32)
    lowered = tile(attention_graph(4, 2, 8, DType.FLOAT32, window))
    found = run_graph(lowered, arrays)["out"]
    np.testing.assert_allclose(found, pytorch_result(arrays, window), atol=1e-5)


def test_bfloat16_agrees_with_pytorch_within_its_precision() -> None:
    arrays = step([2, 18], [20, 18], 4, 1, DType.BFLOAT16)
    lowered = tile(attention_graph(4, 1, 8, DType.BFLOAT16, 0))
    found = np.asarray(run_graph(lowered, arrays)["out"], np.float32)
    wanted = np.asarray(pytorch_result(arrays, 0), np.float32)
    np.testing.assert_allclose(found, wanted, atol=3e-2)


def test_sequences_without_new_tokens_are_passed_over() -> None:
    arrays = step([3, 0, 1], [3, 9, 30], 2, 2, DType.FLOAT32)
    lowered = tile(attention_graph(2, 2, 8, DType.FLOAT32, 0))
    found = run_graph(lowered, arrays)["out"]
    np.testing.assert_allclose(found, pytorch_result(arrays, 0), atol=1e-5)


def test_one_kernel_serves_every_layer() -> None:
    graph = attention_graph(2, 2, 8, DType.FLOAT32, 0)
    builder = Builder()
    inputs = tuple(builder.input(str(n.attr("name")), n.tensor) for n in graph.inputs)
    first = builder.add("paged_attention", inputs, scale=0.25, window=0)
    second = builder.add("paged_attention", (first, *inputs[1:]), scale=0.25, window=0)
    lowered = tile(Graph("twice", inputs, (Output("out", second),)))
    kernels = {node.attr("kernel") for node in lowered.nodes() if node.op == "call"}
    assert len(kernels) == 1


@pytest.mark.parametrize(("size", "dtype"), [(8, DType.FLOAT32), (40, DType.BFLOAT16)])
def test_heads_of_an_unusual_size_are_right_on_the_machine(
    size: int, dtype: DType, program_cache: Path
) -> None:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    graph = attention_graph(4, 2, size, dtype, 0)
    arrays = step([1, 18], [20, 18], 4, 2, dtype, size)
    device = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=1)
    options = CompileOptions(program_cache, optimise=False)
    program = compile_graph(graph, device=device, options=options)
    found = np.asarray(program.run(arrays)["out"], np.float32)
    wanted = np.asarray(run_graph(graph, arrays)["out"], np.float32)
    np.testing.assert_allclose(found, wanted, atol=1e-5 if dtype is DType.FLOAT32 else 3e-2)
    device.close()


def test_what_lies_in_the_block_of_another_sequence_is_never_read() -> None:
    arrays = step([1, 5], [3, 21], 2, 2, DType.FLOAT32)
    wanted = pytorch_result(arrays, 0)
    # Unused entries of the tables name block 0.
    arrays["values"][0] = np.nan
    found = run_graph(tile(attention_graph(2, 2, 8, DType.FLOAT32, 0)), arrays)["out"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_no_bit_depends_on_how_a_prompt_is_cut_or_who_shares_its_step(program_cache: Path) -> None:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    graph = attention_graph(4, 2, 64, DType.BFLOAT16, 0)
    device = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=2)
    # AMX takes another instruction for few rows.
    options = CompileOptions(program_cache, optimise=False, instruction_set=without_tiles())
    program = compile_graph(graph, device=device, options=options)
    whole = step([60, 1], [300, 9], 4, 2, DType.BFLOAT16, 64)
    wanted = np.asarray(program.run(whole)["out"]).copy()
    for cuts in ((0, 60), (0, 7, 59, 60), (0, 30, 31, 60)):
        for first, last in pairwise(cuts):
            part = {
                **whole,
                "queries": whole["queries"][first:last],
                "tables": whole["tables"][:1],
                "starts": np.array([0, last - first], np.int32),
                "lengths": np.array([240 + last], np.int32),
            }
            found = np.asarray(program.run(part)["out"])
            np.testing.assert_array_equal(found.view(np.uint16), wanted[first:last].view(np.uint16))
    device.close()


def without_tiles() -> str:
    names = [level.name for level in detect_instruction_sets()]
    return next(name for name in names if not name.startswith("amx"))


def latent_graph(heads: int, size: int, value_size: int, dtype: DType, columns: int = 64) -> Graph:
    whole = attention_graph(heads, 1, size, dtype, 0, columns)
    builder = Builder()
    kinds = {str(n.attr("name")): n.tensor for n in whole.inputs}
    inputs = tuple(builder.input(n, kinds[n]) for n in NAMES if n != "values")
    attrs = {"scale": 0.25, "window": 0, "value_size": value_size}
    node = builder.add("paged_latent_attention", inputs, **attrs)
    return Graph("latent", inputs, (Output("out", node),))


def latent_by_formula(arrays: dict[str, Any], value_size: int) -> Any:
    """Multi-head attention written out: one latent row is the key of every head, and its value."""
    keys = np.asarray(arrays["keys"], np.float32)
    result = np.zeros((*arrays["queries"].shape[:2], value_size), np.float32)
    for s, length in enumerate(arrays["lengths"]):
        blocks = keys[arrays["tables"][s, : -(-length // 16)], 0]
        rows = blocks.transpose(0, 2, 1, 3).reshape(len(blocks) * 16, -1)[:length]
        first, last = arrays["starts"][s : s + 2]
        for t in range(first, last):
            seen = rows[: length - (last - 1 - t)]
            scores = np.asarray(arrays["queries"][t], np.float32) @ seen.T * 0.25
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            result[t] = weights / weights.sum(-1, keepdims=True) @ seen[:, :value_size]
    return result


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
def test_latent_attention_agrees_with_the_formula(dtype: DType, program_cache: Path) -> None:
    graph = latent_graph(64, 48, 32, dtype)
    arrays = step([1, 18, 1], [130, 18, 3], 64, 1, dtype, 48)
    del arrays["values"]
    wanted = latent_by_formula(arrays, 32)
    tolerance = 1e-5 if dtype is DType.FLOAT32 else 3e-2
    interpreted = (run_graph(g, arrays)["out"] for g in (graph, tile(graph)))
    for found in map(np.asarray, interpreted):
        np.testing.assert_allclose(found.astype(np.float32), wanted, atol=tolerance)
    if dtype is DType.FLOAT32 or isinstance(find_compiler(), Missing):
        return
    device = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=1)
    options = CompileOptions(program_cache, optimise=False)
    found = compile_graph(graph, device=device, options=options).run(arrays)["out"]
    np.testing.assert_allclose(np.asarray(found, np.float32), wanted, atol=tolerance)
    device.close()
