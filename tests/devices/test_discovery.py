from collections.abc import Sequence
from pathlib import Path

import pytest

from banyan.devices import discovery
from banyan.devices.chip import ChipSpec, DeviceFacts, DeviceUsage, No, Topology, Yes
from banyan.devices.chips.ascend import CHIP as ASCEND_CHIP
from banyan.devices.chips.nvidia import CUDA_CHIP
from banyan.devices.cpu import CpuDevice
from banyan.devices.cpu_probe import CPU_CHIP, CpuProbe
from banyan.devices.device import Program
from banyan.devices.discovery import Finding, choose_device, find_device, search_devices
from banyan.devices.native import build_shared_object
from banyan.devices.null import NullDevice
from banyan.foundation.errors import CompilerMissing, DeviceMissing, InputError
from banyan.foundation.settings import Settings

CPU = Finding(CPU_CHIP, Yes("here"), (DeviceFacts("c", "cpu", "Example", 1, 1, ()),))
NO_GPU = Finding(CUDA_CHIP, No("no NVIDIA device"), ())
GPU = Finding(CUDA_CHIP, Yes("listed"), (DeviceFacts("g", "cuda:0", "H200", 1, 1, ()),))


def on_a_machine_with(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    """Make the search find just this."""
    monkeypatch.setattr(discovery, "search_devices", lambda probes: findings)


def test_the_search_reports_every_known_chip_here_or_not() -> None:
    findings = search_devices(discovery.known_probes())
    names = [finding.chip.name for finding in findings]
    vendors = "amd ascend cambricon enflame gaudi hygon iluvatar intel kunlunxin metax"
    assert names == ["cpu", *vendors.split(), "moore_threads", "cuda", "t_head", "opencl"]
    assert isinstance(findings[0].answer, Yes)


class Failing:
    """The probe of a plug-in that was never tried on this machine."""

    chip = ASCEND_CHIP

    def available(self) -> Yes:
        return Yes("here")

    def inventory(self) -> Sequence[DeviceFacts]:
        raise KeyError("HBM")

    def usage(self) -> Sequence[DeviceUsage]:
        return ()

    def topology(self) -> Topology:
        return Topology(0, (), ())


def test_a_probe_that_fails_is_named_and_the_others_are_asked() -> None:
    found = search_devices([Failing(), CpuProbe()])
    assert found[0].answer == No("its probe failed (KeyError: 'HBM'); report it to its author")
    assert [device.name for device in found[1].devices] == ["cpu"]


def test_the_cpu_is_chosen_and_an_idle_gpu_is_named() -> None:
    assert choose_device([CPU, NO_GPU]).name == "cpu"
    assert "not used" not in choose_device([CPU, NO_GPU]).reason
    assert "found but not used: cuda:0 (H200)" in choose_device([CPU, GPU]).reason


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_the_cpu_is_opened_with_every_core_unless_told(name: str, tmp_path: Path) -> None:
    device = find_device(name, settings=Settings(tmp_path))
    assert isinstance(device, CpuDevice)
    assert device.num_threads >= 1
    chosen = find_device(name, settings=Settings(tmp_path), num_threads=3)
    assert isinstance(chosen, CpuDevice)
    assert chosen.num_threads == 3


def test_the_null_device_can_be_named(tmp_path: Path) -> None:
    assert isinstance(find_device("null", settings=Settings(tmp_path)), NullDevice)


def test_a_gpu_that_was_found_is_opened_by_its_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_a_machine_with(monkeypatch, CPU, GPU)
    opened: list[str] = []
    monkeypatch.setattr("banyan.devices.discovery.TorchDevice", opened.append)
    for name in ("cuda", "cuda:0"):
        find_device(name, settings=Settings(tmp_path))
    assert opened == ["cuda:0", "cuda:0"]


def test_a_chip_that_is_only_described_is_not_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    npu = Finding(ASCEND_CHIP, Yes("listed"), (DeviceFacts("a", "ascend:0", "910B2", 1, 1, ()),))
    on_a_machine_with(monkeypatch, CPU, GPU, npu)
    with pytest.raises(DeviceMissing, match="'ascend:0' is here, but this version makes no"):
        find_device("ascend:0", settings=Settings(tmp_path))


def test_threads_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="threads=0 is below 1"):
        find_device("cpu", settings=Settings(tmp_path), num_threads=0)


@pytest.mark.parametrize(
    ("name", "findings", "message"),
    [
        ("cuda:0", (CPU, NO_GPU), "'cuda:0' cannot be used: no NVIDIA device; here: cpu"),
        ("cuda:7", (CPU, GPU), "not among the devices of this machine: cpu, cuda:0"),
        (
            "tpu",
            (CPU, GPU),
            "'tpu' is not known; known: cpu, cuda, triton, null; here: cpu, cuda:0",
        ),
    ],
)
def test_a_device_that_cannot_be_had_is_explained(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    findings: Sequence[Finding],
    message: str,
) -> None:
    on_a_machine_with(monkeypatch, *findings)
    with pytest.raises(DeviceMissing) as caught:
        find_device(name, settings=Settings(tmp_path))
    assert message in str(caught.value)


def test_a_machine_without_a_compiler_says_how_to_get_one(tmp_path: Path) -> None:
    built = build_shared_object(
        'extern "C" int banyan_run() { return 0; }', flags=(), cache_directory=tmp_path, name="p"
    )
    settings = Settings(tmp_path, compiler_command="no-such-compiler")
    device = find_device("cpu", settings=settings, num_threads=1)
    with pytest.raises(CompilerMissing, match="looked for no-such-compiler"):
        device.load(Program("p", "cpp", built.path, "banyan_run", 0, 0, 0))


def test_every_chip_has_a_name_and_a_status_word() -> None:
    chips: list[ChipSpec] = [probe.chip for probe in discovery.known_probes()]
    assert {chip.status for chip in chips} <= {"verified", "emulated", "described"}
    assert all(chip.name and chip.dtypes for chip in chips)
    assert all((chip.target is None) == (chip.status == "described") for chip in chips)
