"""Sequences longer than a split, on the oracle and on this machine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.ir.types import DType
from banyan.compiler.passes.tile import tile
from banyan.compiler.programs.split_keys import SPLIT
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.settings import Settings
from tests.compiler.programs.test_paged_attention import (
    attention_graph,
    latent_by_formula,
    latent_graph,
    pytorch_result,
    step,
    without_tiles,
)

COLUMNS = 512
# Beside each other: the end of a split, one key more, a short one, many splits, a prompt's chunk.
NEW = [1, 1, 1, 1, 5, 0]
CONTEXTS = [SPLIT, SPLIT + 1, 3, 2 * SPLIT + 333, SPLIT + 2, SPLIT + 7]


def long_step(heads: int, kv_heads: int, dtype: DType, size: int = 8) -> dict[str, Any]:
    return step(NEW, CONTEXTS, heads, kv_heads, dtype, size, num_blocks=450)


@pytest.mark.parametrize("window", [0, 40, SPLIT - 1, SPLIT + 100])
@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_splits_of_many_lengths_agree_with_pytorch(group: int, window: int) -> None:
    arrays = long_step(group, 1, DType.FLOAT32)
    lowered = tile(attention_graph(group, 1, 8, DType.FLOAT32, window, COLUMNS))
    found = run_graph(lowered, arrays)["out"]
    np.testing.assert_allclose(found, pytorch_result(arrays, window), atol=1e-5)


def test_a_table_that_cannot_be_longer_than_a_split_needs_no_second_kernel() -> None:
    for columns, kernels in ((SPLIT // 16, 1), (SPLIT // 16 + 1, 2)):
        lowered = tile(attention_graph(2, 1, 8, DType.FLOAT32, 0, columns))
        assert sum(node.op == "call" for node in lowered.nodes()) == kernels


def test_latent_attention_is_split_too() -> None:
    arrays = long_step(4, 1, DType.FLOAT32)
    del arrays["values"]
    graph = latent_graph(4, 8, 4, DType.FLOAT32, COLUMNS)
    found = run_graph(tile(graph), arrays)["out"]
    np.testing.assert_allclose(found, latent_by_formula(arrays, 4), atol=1e-5)


def test_blocks_behind_the_window_are_never_read() -> None:
    arrays = step([1, 4], [300, 290], 2, 1, DType.FLOAT32, num_blocks=50)
    wanted = pytorch_result(arrays, 20)
    for sequence, first_seen in ((0, 280), (1, 267)):
        behind = arrays["tables"][sequence, : first_seen // 16]
        arrays["keys"][behind] = np.nan
        arrays["values"][behind] = np.nan
    found = run_graph(tile(attention_graph(2, 1, 8, DType.FLOAT32, 20)), arrays)["out"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_no_bit_of_a_long_sequence_depends_on_its_company_or_how_its_prompt_is_cut(
    program_cache: Path,
) -> None:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    graph = attention_graph(4, 2, 64, DType.BFLOAT16, 0, COLUMNS)
    device = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=2)
    options = CompileOptions(program_cache, optimise=False, instruction_set=without_tiles())
    program = compile_graph(graph, device=device, options=options)
    whole = long_step(4, 2, DType.BFLOAT16, 64)
    wanted = np.asarray(program.run(whole)["out"]).copy()
    oracle = np.asarray(run_graph(graph, whole)["out"], np.float32)
    np.testing.assert_allclose(np.asarray(wanted, np.float32), oracle, atol=3e-2)
    # Each token alone: those of the chunk then are split, and the short one shares no step.
    for token, (sequence, length) in enumerate(
        [(s, CONTEXTS[s] - NEW[s] + 1 + i) for s in range(len(NEW)) for i in range(NEW[s])]
    ):
        alone = {
            **whole,
            "queries": whole["queries"][token : token + 1],
            "tables": whole["tables"][sequence : sequence + 1, : -(-length // 16)],
            "starts": np.array([0, 1], np.int32),
            "lengths": np.array([length], np.int32),
        }
        found = np.asarray(program.run(alone)["out"])[0]
        np.testing.assert_array_equal(found.view(np.uint16), wanted[token].view(np.uint16))
    device.close()
