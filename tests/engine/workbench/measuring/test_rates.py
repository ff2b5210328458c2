from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from banyan.compiler.compile import compile_graph
from banyan.compiler.options import CompileOptions
from banyan.devices.cpu import CpuDevice
from banyan.devices.discovery import find_device
from banyan.devices.measure import Effort
from banyan.devices.native import Missing, find_compiler
from banyan.devices.profile import load_profile, save_profile
from banyan.engine.workbench.measuring.device import measurable_facts, measure_device
from banyan.engine.workbench.measuring.effort import ProgramEffort
from banyan.engine.workbench.measuring.graphs import LinearChain
from banyan.engine.workbench.measuring.operands import RandomWeights, attention_step
from banyan.engine.workbench.measuring.rates import (
    Overhead,
    Workshop,
    linear_rates,
    measure_overhead,
)
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings

TINY = ProgramEffort(
    seconds=1.0,
    rounds=1,
    cold_bytes=1 << 18,
    depth=64,
    columns=128,
    formats=("float32", "int4"),
    rows=(1, 16),
    caches=("bfloat16",),
    contexts=(16, 64),
    sequences=(1, 2),
    prompts=((16, 16), (16, 64)),
    key_heads=2,
    head_size=16,
)


@pytest.fixture
def device(program_cache: Path) -> Iterator[CpuDevice]:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    with closing(find_device("cpu", settings=Settings(program_cache), num_threads=1)) as found:
        assert isinstance(found, CpuDevice)
        yield found


def shop(device: CpuDevice, directory: Path, effort: ProgramEffort = TINY) -> Workshop:
    options = CompileOptions(directory, optimise=False)
    return Workshop(device, options, effort, lambda what: None)


def test_overhead_is_taken_out_of_a_kernel_but_never_all_of_it() -> None:
    overhead = Overhead(run_seconds=2.0, kernel_seconds=0.5)
    assert overhead.of_one(12.0, kernels=4) == 2.0
    assert overhead.of_one(4.0, kernels=4) == pytest.approx(0.1)


def test_linear_rates_of_the_machine(device: CpuDevice, program_cache: Path) -> None:
    found = list(linear_rates(shop(device, program_cache), Overhead(0.0, 0.0)))
    assert [(rate.weights, rate.rows) for rate in found] == [
        ("float32", 1),
        ("float32", 16),
        ("int4", 1),
        ("int4", 16),
    ]
    assert all(0 < rate.weights_per_second < 1e15 for rate in found)
    assert [rate.group for rate in found] == [0, 0, 64, 64]


def test_starting_a_program_and_a_kernel_costs_something(
    device: CpuDevice, program_cache: Path
) -> None:
    overhead = measure_overhead(shop(device, program_cache))
    assert 0 < overhead.run_seconds < 1
    assert 0 <= overhead.kernel_seconds < 1


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8", "int4"])
def test_numbers_stay_near_one_all_along_a_chain(
    weights: str, device: CpuDevice, program_cache: Path
) -> None:
    chain = LinearChain(weights, depth=256, columns=128, pairs=6)
    program = compile_graph(
        chain.graph(8), device=device, target="interpreter", options=CompileOptions(program_cache)
    )
    program.load_weights(RandomWeights(program))
    x = (
        np.random.default_rng(0)
        .standard_normal((8, 256))
        .astype(program.inputs[0].type.dtype.numpy)
    )
    out = np.asarray(program.run({"x": x})["out"], np.float64)
    assert 1e-3 < float(np.sqrt((out**2).mean())) < 1e3


def test_following_steps_read_other_blocks_around_the_end() -> None:
    step = attention_step(new=1, context=40, sequences=2, first_block=5, num_blocks=8)
    assert step["tables"].tolist() == [[5, 6, 7], [0, 1, 2]]
    assert step["starts"].tolist() == [0, 1, 2]
    assert step["lengths"].tolist() == [40, 40]


@pytest.mark.wide
def test_a_whole_profile_is_measured_and_kept(
    device: CpuDevice, program_cache: Path, tmp_path: Path
) -> None:
    del device  # there is a compiler
    said: list[str] = []
    profile = measure_device(
        "cpu",
        settings=Settings(program_cache),
        measured_on="2026-01-02",
        effort=TINY,
        ceilings=Effort(rounds=1, seconds_per_round=0.001, memory_bytes=1 << 20),
        progress=lambda what, done, total: said.append(what),
    )
    assert profile.has_programs
    assert {(r.sequences, r.context) for r in profile.decode_rates} == {
        (1, 16), (2, 16), (1, 64), (2, 64),
    }  # fmt: skip
    assert [(r.tokens, r.context) for r in profile.prefill_rates] == [(16, 16), (16, 64)]
    assert {r.activations for r in profile.row_rates} == {"float32", "bfloat16"}
    assert min(profile.copy_bytes_per_second, profile.copy_back_bytes_per_second) > 0
    assert profile.read_rates[0][0] == 1
    assert said[-1] == "done"
    save_profile(profile, tmp_path)
    assert load_profile(profile.fingerprint, tmp_path) == profile


@pytest.mark.parametrize("name", ["null", "simulated", "triton"])
def test_a_device_that_imitates_is_not_measured(name: str) -> None:
    with pytest.raises(InputError, match="measure a real one"):
        measurable_facts(name)


def test_a_device_that_is_not_here_is_named_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"'cuda:9' is not on this machine; here: cpu"):
        measurable_facts("cuda:9")
