from pathlib import Path

from banyan.devices.chip import ChipSpec, No, Yes
from banyan.devices.probing.record import ChipRecord
from banyan.devices.probing.vendor import Reader, Vendor, VendorProbe
from tests.devices.chips.machines import Tools, machine

CHIP = ChipSpec("acme", "Acme", ("abcd",), None, None, None, ("float32",), "described")
DEVICE = ("0000:01:00.0", "abcd", "0001", "120000")


def vendor(*records: ChipRecord) -> Vendor:
    """A vendor whose tool lists these."""
    return Vendor(CHIP, "chip", (Reader("acme-smi", lambda run: records),), "the Acme driver")


def test_a_tool_that_lists_nothing_is_a_reasoned_no(tmp_path: Path) -> None:
    probe = VendorProbe(vendor(), machine(tmp_path, DEVICE), Tools({}))
    assert probe.available() == No(
        "1 Acme device(s) on the PCI bus, but acme-smi lists none; check that the driver shows "
        "them to this container",
        is_present=True,
    )


def test_two_devices_of_one_number_are_refused(tmp_path: Path) -> None:
    twice = vendor(ChipRecord(index=0, model="A"), ChipRecord(index=0, model="B"))
    answer = VendorProbe(twice, machine(tmp_path, DEVICE), Tools({})).available()
    assert isinstance(answer, No)
    assert "the output of acme-smi cannot be read (two devices have the same number)" in (
        answer.reason
    )


def test_what_the_bus_calls_something_else_is_left_out(tmp_path: Path) -> None:
    root = machine(tmp_path, DEVICE, ("0000:02:00.0", "abcd", "0002", "030000"))
    listed = vendor(
        ChipRecord(index=0, model="A", bus="0000:01:00.0"),
        ChipRecord(index=1, model="B", bus="0000:02:00.0"),
    )
    only_accelerators = Vendor(
        CHIP, "chip", listed.readers, "", counts=lambda device: device.kind.startswith("12")
    )
    probe = VendorProbe(only_accelerators, root, Tools({}))
    assert probe.available() == Yes("1 Acme chip(s) listed by acme-smi")
    assert [device.name for device in probe.inventory()] == ["acme:0"]
