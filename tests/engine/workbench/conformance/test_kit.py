from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.ir.types import DType
from banyan.compiler.options import CompileOptions
from banyan.devices.cpu import CpuDevice
from banyan.devices.device import Buffer, LoadedProgram
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.engine.workbench.conformance.checks import Area, Bench, Check, ConformanceReport
from banyan.engine.workbench.conformance.graph_case import run_case
from banyan.engine.workbench.conformance.kit import (
    Subject,
    check_device,
    check_subject,
    status_of,
)
from banyan.engine.workbench.conformance.models import linear_case
from banyan.engine.workbench.conformance.operators import unary_case
from banyan.foundation.errors import DeviceMissing
from banyan.foundation.settings import Settings
from tests.pocl import open_pocl


class BrokenDevice:
    """A CPU whose programs add to the first number of their last result."""

    def __init__(self, device: CpuDevice, added: float) -> None:
        self._device = device
        self._added = added

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def launch(
        self, loaded: LoadedProgram, buffers: Sequence[Buffer], symbols: Sequence[int]
    ) -> None:
        self._device.launch(loaded, buffers, symbols)
        results = buffers[-2]
        results.array(np.dtype(np.float32), (1,))[0] += self._added


@pytest.fixture
def device(program_cache: Path) -> Iterator[CpuDevice]:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    with closing(find_device("cpu", settings=Settings(program_cache), num_threads=1)) as found:
        assert isinstance(found, CpuDevice)
        yield found


def checked(device: Any, directory: Path, areas: tuple[Area, ...]) -> ConformanceReport:
    subject = Subject(device, "Example 1", is_emulated=False, runs_programs=True)
    return check_subject(subject, CompileOptions(directory, optimise=False), areas=areas)


@pytest.mark.parametrize("name", ["null", "simulated"])
def test_a_device_that_runs_nothing_is_described(name: str, tmp_path: Path) -> None:
    report = check_device(name, settings=Settings(tmp_path))
    assert report.failures == ()
    assert (report.status, report.target) == ("described", "none")
    assert {check.area for check in report.checks} == {"memory", "limits", "launches"}


def test_memory_limits_and_launches_of_the_cpu(device: CpuDevice, program_cache: Path) -> None:
    report = checked(device, program_cache, ("memory", "limits", "launches"))
    assert report.failures == ()
    assert report.status == "described"  # a word is earned by the whole kit


@pytest.mark.parametrize(
    "case",
    [unary_case(DType.BFLOAT16), linear_case(DType.FLOAT32, 65, 33)],
    ids=lambda case: case.name,
)
def test_cases_agree_on_the_cpu(case: Any, device: CpuDevice, program_cache: Path) -> None:
    bench = Bench(device, CompileOptions(program_cache, optimise=False))
    found = list(run_case(case, bench))
    assert len(found) >= len(case.sizes)
    assert [check for check in found if not check.passed] == []


def test_a_device_that_computes_wrongly_is_told_which_case_with_the_numbers(
    device: CpuDevice, program_cache: Path
) -> None:
    bench = Bench(BrokenDevice(device, 0.5), CompileOptions(program_cache, optimise=False))
    found = list(run_case(linear_case(DType.FLOAT32, 17, 5), bench))
    assert not any(check.passed for check in found)
    assert found[0].name == "linear 17 x 5 f32, n=1"
    assert "at [0, 0] the device has" in found[0].found


def test_a_small_error_within_the_tolerance_passes(device: CpuDevice, program_cache: Path) -> None:
    bench = Bench(BrokenDevice(device, 1e-6), CompileOptions(program_cache, optimise=False))
    assert all(check.passed for check in run_case(linear_case(DType.FLOAT32, 17, 5), bench))


def test_a_device_that_ends_an_area_early_has_failed_it(
    device: CpuDevice, program_cache: Path
) -> None:
    class NoCopies(BrokenDevice):
        def copy_out(self, *args: Any) -> None:
            raise OSError("the bus is gone")

    report = checked(NoCopies(device, 0.0), program_cache, ("memory",))
    assert [check.found for check in report.failures] == ["ended early: OSError: the bus is gone"]


@pytest.mark.parametrize(
    ("all_passed", "is_whole", "runs_programs", "is_emulated", "word"),
    [
        (True, True, True, False, "verified"),
        (True, True, True, True, "emulated"),
        (False, True, True, False, "described"),
        (False, True, True, True, "described"),
        (True, False, True, False, "described"),
        (True, True, False, True, "described"),
    ],
)
def test_one_word_is_earned(
    all_passed: bool, is_whole: bool, runs_programs: bool, is_emulated: bool, word: str
) -> None:
    earned = status_of(
        all_passed=all_passed,
        is_whole=is_whole,
        runs_programs=runs_programs,
        is_emulated=is_emulated,
    )
    assert earned == word


def test_a_device_that_is_not_here_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceMissing, match="abacus"):
        check_device("abacus", settings=Settings(tmp_path))


@pytest.mark.wide
def test_the_whole_kit_passes_on_the_cpu(device: CpuDevice, program_cache: Path) -> None:
    del device  # there is a compiler
    told: list[Check] = []
    report = check_device("cpu", settings=Settings(program_cache), tell=told.append)
    assert report.failures == ()
    assert report.status == "verified"
    assert tuple(told) == report.checks


@pytest.mark.wide
@pytest.mark.parametrize("lanes", [None, 2])
def test_the_whole_kit_passes_on_pocl(lanes: int | None, program_cache: Path) -> None:
    for device in open_pocl(lanes):
        subject = Subject(device, "PoCL", is_emulated=True, runs_programs=True)
        report = check_subject(subject, CompileOptions(program_cache))
        assert report.failures == ()
        assert (report.status, report.target) == ("emulated", "opencl")


@pytest.mark.wide
def test_the_whole_kit_passes_on_the_interpreter_of_triton(program_cache: Path) -> None:
    pytest.importorskip("triton")
    report = check_device("triton", settings=Settings(program_cache))
    assert report.failures == ()
    assert (report.status, report.target) == ("emulated", "triton")
