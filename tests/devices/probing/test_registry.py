import importlib
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from banyan.devices import chips
from banyan.devices.chip import No, Yes
from banyan.devices.chips.nvidia import VENDOR as NVIDIA
from banyan.devices.discovery import known_probes, search_devices
from banyan.devices.probing.registry import (
    GROUP,
    installed_plug_ins,
    plug_in_probes,
    vendor_probes,
)

# All that a vendor takes: this one file. The bus is this machine's, so it counts any device there.
SIMULATED = """
from banyan.devices.chip import ChipSpec
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.vendor import Reader, Vendor, VendorProbe

CHIP = ChipSpec("acme", "Acme", ("abcd",), None, None, None, ("float32",), "described")

def read(run):
    return [ChipRecord(index=0, model="Acme One", memory_bytes=8 << 30)]

VENDOR = Vendor(CHIP, "chip", (Reader("acme-smi", read),), "the Acme driver")
"""
PLUG_IN = (
    SIMULATED
    + """
from pathlib import Path

def probe():
    return VendorProbe(VENDOR, Path(__file__).parent)
"""
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules that is searched for them, and forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if "acme" in name:
            del sys.modules[name]


def test_a_vendor_takes_one_file_and_no_edit_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "acme.py").write_text(SIMULATED, encoding="utf-8")
    monkeypatch.setattr(chips, "__path__", [*chips.__path__, str(folder)])
    importlib.invalidate_caches()
    names = [probe.chip.name for probe in known_probes()]
    assert "acme" in names
    finding = next(f for f in search_devices(vendor_probes(chips)) if f.chip.name == "acme")
    assert finding.answer == No("no Acme chip in this machine's PCI list")


def test_an_installed_plug_in_is_found_by_its_entry_point(folder: Path) -> None:
    (folder / "acme_chip.py").write_text(PLUG_IN, encoding="utf-8")
    device = folder / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    for name, value in (("vendor", "0xabcd"), ("device", "0x1"), ("class", "0x120000")):
        (device / name).write_text(value, encoding="ascii")
    described = folder / "acme_chip-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-chip\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(f"[{GROUP}]\nacme = acme_chip:probe\n")
    assert [entry.name for entry in installed_plug_ins()] == ["acme"]
    finding = next(f for f in search_devices(known_probes()) if f.chip.name == "acme")
    assert finding.answer == Yes("1 Acme chip(s) listed by acme-smi")
    assert [(fact.name, fact.model) for fact in finding.devices] == [("acme:0", "Acme One")]


def entry(value: str) -> EntryPoint:
    """A plug-in named "acme"."""
    return EntryPoint("acme", value, GROUP)


def test_a_plug_in_may_offer_a_vendor() -> None:
    (probe,) = plug_in_probes([entry("banyan.devices.chips.nvidia:VENDOR")], taken=[])
    assert probe.chip is NVIDIA.chip


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("acme_that_is_not_there:VENDOR", "cannot be loaded (ModuleNotFoundError: No module"),
        ("banyan.devices.chips.nvidia:NOTHING", "cannot be loaded (AttributeError: "),
        ("banyan.devices.chips.nvidia:CUDA_CHIP", "it is a ChipSpec, neither a Vendor nor a fun"),
        ("banyan.devices.chips.nvidia:VENDOR", "names its chip 'cuda', as another chip is named"),
    ],
)
def test_a_plug_in_that_cannot_be_used_says_why_and_nothing_else_suffers(
    value: str, message: str
) -> None:
    (probe,) = plug_in_probes([entry(value)], taken=["cuda"])
    answer = probe.available()
    assert probe.chip.name == "acme"
    assert isinstance(answer, No)
    assert f"the plug-in {value} " in answer.reason
    assert message in answer.reason
    assert answer.reason.endswith("; update it or uninstall it")
    assert (probe.inventory(), probe.usage(), probe.topology().sockets) == ((), (), 0)
