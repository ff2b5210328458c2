"""OpenCL devices on PoCL, and probes of machines that have none."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from banyan.devices import discovery
from banyan.devices.chip import No, Yes
from banyan.devices.device import Device, Program
from banyan.devices.host_memory import allocate_host_memory
from banyan.devices.launch_plan import LaunchPlan, Place, PlannedKernel, Step
from banyan.devices.opencl import OpenClDevice
from banyan.devices.opencl_driver import find_chips
from banyan.devices.opencl_limits import OpenClLimits
from banyan.devices.opencl_probe import OpenClProbe
from banyan.foundation.errors import (
    CompilationFailed,
    DeviceMissing,
    EnvironmentProblem,
    InputError,
)
from banyan.foundation.settings import Settings
from tests.pocl import CACHE, open_pocl

SOURCE = """
__kernel void scale(__global char* b0, long o0, __global char* b1, long o1, long n, long items) {
  const long i = get_global_id(0);
  if (i < n) ((__global float*)(b1 + o1))[i] = 2.0f * ((__global const float*)(b0 + o0))[i];
}
"""
SCALE = Step(0, (Place(0), Place(1)), (0,), [[1, [0]]])
COPY = Step(None, (Place(1, 4), Place(1, 0)), (), 4)
FIRST_CONSTANT = Step(None, (Place(None, 0), Place(1, 8)), (), 4)


@pytest.fixture(scope="module")
def device() -> Iterator[OpenClDevice]:
    yield from open_pocl()


def program(folder: Path, source: str = SOURCE, **changes: object) -> Program:
    steps = (SCALE, COPY, FIRST_CONSTANT)
    constants = np.float32(42).tobytes()
    plan = LaunchPlan(source, 1, (PlannedKernel("scale", "scale", 0),), {"run_0": steps}, constants)
    image = folder / "plan.json"
    image.write_text(plan.as_text(), encoding="utf-8")
    values: dict[str, object] = {
        "name": "p",
        "target": "opencl",
        "image": image,
        "entry": "run_0",
        "num_buffers": 2,
        "num_symbols": 1,
        "scratch_bytes_per_thread": 0,
    }
    return Program(**{**values, **changes})  # type: ignore[arg-type]


def test_launches_copies_and_constants_run_in_order(device: OpenClDevice, tmp_path: Path) -> None:
    one: Device = device
    loaded = one.load(program(tmp_path))
    result = one.allocate(16)
    for factor in (1, 3):
        given = one.adopt(np.arange(4, dtype=np.float32) * factor)
        one.launch(loaded, [given, result], [4])
        one.synchronize()
        found = np.empty(4, np.float32)
        one.copy_out(result, found)
        np.testing.assert_array_equal(found, [2 * factor, 2 * factor, 42, 6 * factor])


def test_a_launch_of_nothing_starts_nothing(device: OpenClDevice, tmp_path: Path) -> None:
    loaded = device.load(program(tmp_path))
    device.launch(loaded, [device.allocate(16), device.allocate(16)], [0])


def test_memory_is_zeroed_and_copied_at_an_offset(device: OpenClDevice) -> None:
    buffer = device.allocate(8)
    device.copy_in(np.array([1.5], ml_dtypes.bfloat16), buffer, offset=4)
    found = np.ones(4, ml_dtypes.bfloat16)
    device.copy_out(buffer, found)
    assert found.tolist() == [0, 0, 1.5, 0]
    device.copy_in(np.empty(0, np.float32), buffer)
    assert not buffer.is_on_host
    with pytest.raises(InputError, match="copy it out"):
        buffer.array(np.dtype(np.uint8), (8,))
    with pytest.raises(InputError, match="beyond the 8 of the buffer"):
        device.copy_in(np.zeros(3, np.float32), buffer)


def test_memory_that_cannot_be_had_is_refused(device: OpenClDevice) -> None:
    with pytest.raises(InputError, match="ask for 0 or more"):
        device.allocate(-1)
    with pytest.raises(EnvironmentProblem, match=r"at most .* bytes in one piece"):
        device.allocate(1 << 60)
    assert device.free_bytes > 0


def test_programs_that_do_not_fit_are_refused(device: OpenClDevice, tmp_path: Path) -> None:
    with pytest.raises(CompilationFailed, match="runs programs of target 'opencl'"):
        device.load(program(tmp_path, target="cpp"))
    with pytest.raises(CompilationFailed, match="no entry 'run_9'"):
        device.load(program(tmp_path, entry="run_9"))
    (tmp_path / "bad").mkdir()
    with pytest.raises(CompilationFailed, match=r"refused program .*error"):
        device.load(program(tmp_path / "bad", "__kernel void scale( {"))
    loaded = device.load(program(tmp_path))
    with pytest.raises(InputError, match="takes 2 buffers"):
        device.launch(loaded, [], [1])
    with pytest.raises(InputError, match="cannot read a buffer of type HostBuffer"):
        device.launch(loaded, [allocate_host_memory(16)] * 2, [1])


def test_a_closed_device_says_so(device: OpenClDevice, tmp_path: Path) -> None:
    (chip, *_) = find_chips()
    closed = OpenClDevice("opencl:0", chip, CACHE.parent)
    loaded = closed.load(program(tmp_path))
    buffers = [closed.allocate(16)] * 2
    closed.close()
    with pytest.raises(InputError, match="closed; open a new one"):
        closed.launch(loaded, buffers, [1])


def test_groups_larger_than_the_driver_runs_are_halved_until_they_work(
    device: OpenClDevice, caplog: pytest.LogCaptureFixture
) -> None:
    (chip, *_) = find_chips()
    lying = OpenClDevice("opencl:0", chip, CACHE.parent, OpenClLimits(8192, 1024))
    assert lying.limits.lanes <= 4096
    assert "claims work-groups of 8192" in caplog.text


def test_the_first_device_is_opened_by_name(device: OpenClDevice, tmp_path: Path) -> None:
    settings = Settings(CACHE.parent)
    opened = discovery.find_device("opencl", settings=settings)
    assert opened.name == "opencl:0"
    opened.close()
    with pytest.raises(DeviceMissing, match="'opencl:99' is not among the devices"):
        discovery.find_device("opencl:99", settings=settings)


def test_a_machine_without_the_package_is_told_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    answer = OpenClProbe().available()
    assert isinstance(answer, No)
    assert "pip install 'banyan-compute[opencl]'" in answer.reason
    assert OpenClProbe().inventory() == ()
    with pytest.raises(DeviceMissing, match="cannot be used: OpenCL needs the package pyopencl"):
        discovery.find_device("opencl:0", settings=Settings(tmp_path))


def test_a_machine_without_a_driver_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDriver(Exception):
        pass

    def get_platforms() -> None:
        raise NoDriver("PLATFORM_NOT_FOUND_KHR")

    fake = SimpleNamespace(Error=NoDriver, get_platforms=get_platforms)
    monkeypatch.setitem(sys.modules, "pyopencl", fake)
    answer = OpenClProbe().available()
    assert isinstance(answer, No)
    assert "no OpenCL driver is installed (PLATFORM_NOT_FOUND_KHR)" in answer.reason


def test_every_listed_device_is_described() -> None:
    chip = SimpleNamespace(
        name=" Chip ",
        platform=SimpleNamespace(name="Platform"),
        global_mem_size=1 << 30,
        max_compute_units=4,
        extensions="cl_khr_fp16 cl_khr_icd",
        driver_version="1.2",
    )
    probe = OpenClProbe(lambda: [chip])
    assert probe.available() == Yes("1 device(s) of Platform")
    (facts,) = probe.inventory()
    assert (facts.name, facts.model, facts.cores) == ("opencl:0", "Chip", 4)
    assert facts.features == ("cl_khr_fp16",)
    assert facts.driver == "Platform 1.2"
    assert (probe.usage(), probe.topology().sockets) == ((), 0)
    assert isinstance(OpenClProbe(lambda: []).available(), No)
