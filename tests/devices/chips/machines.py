"""Machines that are not there: PCI lists in a folder, and tools that answer from samples."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from banyan.devices.chip import DeviceFacts, DeviceUsage, No, Yes
from banyan.devices.probing.vendor import Vendor, VendorProbe

SAMPLES = Path(__file__).parent / "samples"
MEBIBYTE = 1024 * 1024


def sample(name: str) -> str:
    """What a tool printed."""
    return (SAMPLES / name).read_text(encoding="utf-8")


def machine(root: Path, *devices: tuple[str, str, str, str]) -> Path:
    """Write a PCI list of (address, vendor, device, class)."""
    for address, vendor, device, kind in devices:
        folder = root / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        for name, value in (("vendor", vendor), ("device", device), ("class", kind)):
            (folder / name).write_text(f"0x{value}\n", encoding="ascii")
    return root


class Tools:
    """The commands of a machine: the words of each, or how it begins, -> what it prints."""

    def __init__(self, answers: Mapping[str, str | Exception]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, command: Sequence[str], writes: str | None = None) -> str:
        line = " ".join(command)
        self.asked.append(line)
        fitting = [said for said in self.answers if line == said or line.startswith(f"{said} ")]
        if not fitting:
            raise FileNotFoundError(command[0])
        answer = self.answers[max(fitting, key=len)]
        if isinstance(answer, Exception):
            raise answer
        return answer


def hung(tool: str) -> subprocess.TimeoutExpired:
    """A tool that was stopped."""
    return subprocess.TimeoutExpired(tool, 20.0)


def look(
    vendor: Vendor, root: Path, answers: Mapping[str, str | Exception]
) -> tuple[Yes | No, tuple[DeviceFacts, ...], tuple[DeviceUsage, ...]]:
    """Ask a vendor's probe everything."""
    probe = VendorProbe(vendor, root, Tools(answers))
    return probe.available(), probe.inventory(), probe.usage()
