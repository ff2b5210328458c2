import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from banyan.devices.chip import DeviceFacts, DeviceUsage, No, Yes
from banyan.devices.cuda import CudaProbe, find_accelerators, run_command

ROW = "0, NVIDIA H200, GPU-1234, 143771, 512, 25, 41, 76.50, 9.0, 570.12\n"


def machine(root: Path, devices: dict[str, tuple[str, str]]) -> Path:
    """Write a PCI list: address -> (vendor, class)."""
    for address, (vendor, kind) in devices.items():
        folder = root / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n", encoding="ascii")
        (folder / "class").write_text(f"{kind}\n", encoding="ascii")
    return root


@pytest.fixture
def with_gpu(tmp_path: Path) -> Path:
    """A machine with one NVIDIA GPU on the bus."""
    return machine(tmp_path, {"0000:01:00.0": ("0x10de", "0x030200")})


def test_a_machine_without_a_gpu_gives_a_reasoned_no_and_runs_no_command(tmp_path: Path) -> None:
    def forbidden(command: Sequence[str]) -> str:
        raise AssertionError(command)

    probe = CudaProbe(tmp_path, forbidden)
    assert probe.available() == No("no NVIDIA display or compute device in this machine's PCI list")
    assert probe.inventory() == ()
    assert probe.usage() == ()
    assert probe.topology().memory_nodes == ()
    assert probe.chip.name == "cuda"


def test_only_display_and_compute_devices_of_the_vendor_count(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "0000:01:00.0": ("0x10de", "0x030200"),
            "0000:01:00.1": ("0x10de", "0x040300"),
            "0000:02:00.0": ("0x1002", "0x030000"),
            "0000:03:00.0": ("0x10de", "0x120000"),
        },
    )
    (root / "sys/bus/pci/devices/0000:04:00.0").mkdir()
    assert find_accelerators(root, ("10de",)) == ("0000:01:00.0", "0000:03:00.0")


def test_a_gpu_is_described_by_the_drivers_command(with_gpu: Path) -> None:
    probe = CudaProbe(with_gpu, lambda command: ROW)
    assert probe.available() == Yes("1 NVIDIA GPU(s) listed by nvidia-smi")
    assert probe.inventory() == (
        DeviceFacts(
            uuid="GPU-1234",
            name="cuda:0",
            model="NVIDIA H200",
            memory_bytes=143771 * 1024 * 1024,
            cores=1,
            features=("compute_9.0",),
            driver="570.12",
        ),
    )
    assert probe.usage() == (DeviceUsage("GPU-1234", 512 * 1024 * 1024, 0.25, 41.0, 76.5),)


def test_fields_that_the_driver_does_not_know_are_none(with_gpu: Path) -> None:
    row = "0, X, GPU-1, 10, [N/A], [N/A], [N/A], [Not Supported], 9.0, 570\n"
    assert CudaProbe(with_gpu, lambda command: row).usage() == (
        DeviceUsage("GPU-1", 0, None, None, None),
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError("nvidia-smi"), "the command nvidia-smi is missing; install"),
        (subprocess.TimeoutExpired("nvidia-smi", 20), "nvidia-smi failed"),
        (OSError(), "nvidia-smi failed (OSError)"),
    ],
)
def test_a_driver_that_does_not_answer_is_a_reasoned_no(
    with_gpu: Path, error: Exception, message: str
) -> None:
    def failing(command: Sequence[str]) -> str:
        raise error

    probe = CudaProbe(with_gpu, failing)
    answer = probe.available()
    assert isinstance(answer, No)
    assert message in answer.reason
    assert probe.inventory() == ()


def test_a_driver_that_answers_nonsense_is_a_reasoned_no(with_gpu: Path) -> None:
    answer = CudaProbe(with_gpu, lambda command: "No devices were found\n").available()
    assert isinstance(answer, No)
    assert "1 fields where 10 were asked for" in answer.reason


def test_a_driver_that_lists_nothing_is_a_reasoned_no(with_gpu: Path) -> None:
    answer = CudaProbe(with_gpu, lambda command: "").available()
    assert answer == No(
        "nvidia-smi lists no GPU; check that the driver shows one to this container"
    )


def test_a_command_gives_what_it_prints() -> None:
    assert run_command([sys.executable, "-c", "print(3)"]) == "3\n"


def test_a_command_that_fails_raises() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_command([sys.executable, "-c", "raise SystemExit(1)"])
