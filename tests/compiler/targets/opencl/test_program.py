"""Programs printed as OpenCL C do on a device what the interpreter does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, compile_graph, make_manifest
from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.types import DType
from banyan.compiler.packed_weights import WeightLoader
from banyan.compiler.programs.split_keys import SPLIT
from banyan.compiler.report import CompileReport
from banyan.compiler.targets.interpreter import run_graph
from banyan.compiler.targets.memory import place_memory
from banyan.compiler.targets.opencl.target import open_target
from banyan.devices.opencl import OpenClDevice
from tests.compiler.ir.sample_kernels import row_squares_graph
from tests.compiler.programs.rounded_caches import ROUNDED_CASES as ROUNDED
from tests.compiler.programs.rounded_caches import (
    RoundedCase,
    check_program,
    given_steps,
    rounded_graph,
)
from tests.compiler.programs.test_grouped_linear import arrays as grouped_arrays
from tests.compiler.programs.test_grouped_linear import grouped_graph
from tests.compiler.programs.test_low_rank import CHOSEN, low_rank_graph
from tests.compiler.programs.test_low_rank import arrays as low_rank_arrays
from tests.compiler.programs.test_paged_attention import attention_graph, step
from tests.compiler.programs.test_scatter import scatter_arrays, scatter_graph
from tests.compiler.quantized_graphs import CASES as QUANTISED
from tests.compiler.quantized_graphs import Case as QuantisedCase
from tests.compiler.quantized_graphs import arrays as quantised_arrays
from tests.compiler.quantized_graphs import linear_graph
from tests.compiler.small_graphs import Weights
from tests.compiler.targets.cpp.test_program import assert_agrees, family_cases
from tests.compiler.targets.cpp.test_tiles import CASES, arrays, tile_graph
from tests.compiler.test_fuzz import GRAPHS_OF_SLICE, SLICES, random_cases

F32, BF16 = DType.FLOAT32, DType.BFLOAT16
TOLERANCE = {F32: 1e-4, BF16: 2e-2}
"""Of a number of size 1, absolute and relative."""


def on_device(graph: Graph, device: OpenClDevice, cache: Path) -> Any:
    return compile_graph(graph, device=device, options=CompileOptions(cache))


def lowered_program(graph: Graph, device: OpenClDevice, cache: Path) -> CompiledProgram:
    """A graph of hand-written kernels, as it is."""
    target = open_target(device, CompileOptions(cache))
    placement = place_memory(graph)
    text = target.emit(graph, placement)
    report = CompileReport(graph.name, "opencl", "", 0, 0, 0, (), 0, 0, 0, 0.0, False)
    manifest = make_manifest(graph, graph, placement, text, target.build(text), report)
    return CompiledProgram(manifest, device, WeightLoader(device, target.open_packer))


def is_for_opencl(name: str) -> bool:
    """Weights are not packed for this target."""
    return not name.startswith("packed dot")


def agree_on_tiles(names: list[str], device: OpenClDevice, cache: Path) -> None:
    for name in names:
        graph = tile_graph(*CASES[name])
        given = arrays(graph)
        wanted = run_graph(graph, given)["y"].astype(np.float64)
        found = lowered_program(graph, device, cache).run(given)["y"].astype(np.float64)
        bound = TOLERANCE[BF16 if any(n.dtype is BF16 for n in graph.inputs) else F32]
        np.testing.assert_allclose(found, wanted, rtol=bound, atol=bound, err_msg=name)


def test_random_graphs_agree_with_the_interpreter(device: OpenClDevice, tmp_path: Path) -> None:
    for case in random_cases(1, 3, max_steps=8):
        assert_agrees(case, on_device(case.graph, device, tmp_path).run(case.arrays))


@pytest.mark.wide
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(SLICES), ids=lambda n: f"slice-{n}")
def test_thousands_of_random_graphs_agree_with_the_interpreter(
    number: int, device: OpenClDevice, tmp_path: Path
) -> None:
    for case in random_cases(number, GRAPHS_OF_SLICE):
        assert_agrees(case, on_device(case.graph, device, tmp_path).run(case.arrays))


SAMPLE = (
    "concat of unknown parts",
    "sum of columns",
    "softmax",
    "loop",
    "dot with transposed batches",
    "cast to half",
)


def test_operations_on_tiles_agree_with_the_interpreter(
    device: OpenClDevice, tmp_path: Path
) -> None:
    agree_on_tiles(list(SAMPLE), device, tmp_path)


@pytest.mark.wide
def test_every_operation_on_tiles_agrees_with_the_interpreter(
    device: OpenClDevice, tmp_path: Path
) -> None:
    agree_on_tiles([name for name in CASES if is_for_opencl(name)], device, tmp_path)


@pytest.mark.wide
def test_every_family_of_operations_agrees_with_the_interpreter(
    device: OpenClDevice, tmp_path: Path
) -> None:
    for case in family_cases():
        assert_agrees(case, on_device(case.graph, device, tmp_path).run(case.arrays))


def test_a_hand_written_kernel_with_a_loop_and_a_bound_size_agrees_with_the_interpreter(
    device: OpenClDevice, tmp_path: Path
) -> None:
    program = lowered_program(row_squares_graph(), device, tmp_path)
    x = np.random.default_rng(0).standard_normal((13, 8)).astype(np.float32)
    np.testing.assert_allclose(program.run({"x": x})["y"], (x * x).sum(axis=1), rtol=1e-5)


def test_prefill_and_decode_over_a_paged_cache_agree_with_the_interpreter(
    single: OpenClDevice, tmp_path: Path
) -> None:
    agree_on_attention(F32, 7, single, tmp_path)


@pytest.mark.wide
@pytest.mark.parametrize(("dtype", "window"), [(F32, 7), (F32, 0), (BF16, 0)])
def test_work_items_share_paged_attention(
    dtype: DType, window: int, device: OpenClDevice, tmp_path: Path
) -> None:
    agree_on_attention(dtype, window, device, tmp_path)


def test_splits_of_a_long_sequence_agree_with_the_interpreter(
    single: OpenClDevice, tmp_path: Path
) -> None:
    graph = attention_graph(4, 2, 8, F32, 0, columns=512)
    given = step([1, 3, 1], [SPLIT + 20, 21, 5], 4, 2, F32, num_blocks=140)
    found = on_device(graph, single, tmp_path).run(given)["out"]
    np.testing.assert_allclose(found, run_graph(graph, given)["out"], atol=1e-5)


def agree_on_attention(dtype: DType, window: int, device: OpenClDevice, tmp_path: Path) -> None:
    graph = attention_graph(4, 2, 8, dtype, window)
    given = step([1, 33, 1, 5], [70, 33, 1, 21], 4, 2, dtype)
    found = on_device(graph, device, tmp_path).run(given)["out"].astype(np.float32)
    wanted = np.asarray(run_graph(graph, given)["out"], np.float32)
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE[dtype])


@pytest.mark.wide
def test_rounded_keys_and_values_agree_with_the_interpreter(
    single: OpenClDevice, tmp_path: Path
) -> None:
    case = RoundedCase("int4", window=7)
    check_program(on_device(rounded_graph(case), single, tmp_path), case, given_steps(case))


@pytest.mark.wide
@pytest.mark.parametrize("case", ROUNDED, ids=str)
def test_work_items_share_rounded_keys_and_values(
    case: RoundedCase, device: OpenClDevice, tmp_path: Path
) -> None:
    check_program(on_device(rounded_graph(case), device, tmp_path), case, given_steps(case))


@pytest.mark.wide
@pytest.mark.parametrize("case", QUANTISED, ids=str)
def test_quantised_layers_agree_with_the_interpreter(
    case: QuantisedCase, device: OpenClDevice, tmp_path: Path
) -> None:
    graph, given = linear_graph(case), quantised_arrays(case)
    program = on_device(graph, device, tmp_path)
    program.load_weights(Weights({name: a for name, a in given.items() if name != "x"}))
    program.allocate_state({})
    found = program.run({"x": given["x"]})["out"].astype(np.float32)
    wanted = np.asarray(run_graph(graph, given)["out"], np.float32)
    bound = TOLERANCE[case.dtype] * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, atol=bound)


@pytest.mark.parametrize("dtype", [F32, pytest.param(BF16, marks=pytest.mark.wide)])
def test_experts_multiply_their_own_rows(
    dtype: DType, device: OpenClDevice, tmp_path: Path
) -> None:
    graph = grouped_graph(20, 6, dtype, "argument")
    given = grouped_arrays(20, 6, dtype)
    found = on_device(graph, device, tmp_path).run(given)["out"].astype(np.float32)
    wanted = np.asarray(run_graph(graph, given)["out"], np.float32)
    bound = TOLERANCE[dtype]
    np.testing.assert_allclose(found, wanted, atol=bound, rtol=bound)


def test_rows_get_the_change_of_their_adapter(device: OpenClDevice, tmp_path: Path) -> None:
    graph = low_rank_graph(F32)
    given = low_rank_arrays(graph, CHOSEN[-1])
    program = on_device(graph, device, tmp_path)
    program.allocate_state({})
    program.write_state("up", given["up"])
    for adapter, part in enumerate(given["down"]):
        program.write_state_part("down", adapter, part)
    found = program.run({name: given[name] for name in ("x", "chosen")})["out"]
    np.testing.assert_allclose(found, run_graph(graph, given)["out"], atol=1e-4, rtol=1e-4)


def test_scattered_rows_agree_with_the_interpreter(device: OpenClDevice, tmp_path: Path) -> None:
    graph = scatter_graph()
    given = scatter_arrays(graph, 5, 130)
    program = on_device(graph, device, tmp_path)
    program.load_weights(Weights({}))
    found, wanted = program.run(given), run_graph(graph, given)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
