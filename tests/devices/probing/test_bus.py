from pathlib import Path

import pytest

from banyan.devices.probing.bus import PciDevice, is_accelerator, list_pci, read_address
from tests.devices.chips.machines import machine


def test_the_list_is_read_in_order_and_what_is_unreadable_is_left_out(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        ("0000:02:00.0", "1002", "747E", "030000"),
        ("0000:01:00.0", "10de", "2335", "030200"),
    )
    (root / "sys/bus/pci/devices/0000:04:00.0").mkdir()
    assert list_pci(root) == (
        PciDevice("0000:01:00.0", "10de", "2335", "030200"),
        PciDevice("0000:02:00.0", "1002", "747e", "030000"),
    )


def test_a_machine_without_a_pci_list_has_no_devices(tmp_path: Path) -> None:
    assert list_pci(tmp_path) == ()


@pytest.mark.parametrize(
    ("kind", "counts"),
    [("030000", True), ("030200", True), ("120000", True), ("040300", False), ("020000", False)],
)
def test_displays_and_accelerators_count(kind: str, counts: bool) -> None:
    assert is_accelerator(PciDevice("0000:01:00.0", "10de", "2335", kind)) is counts


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:0C:00.0", "0000:0c:00.0"),
        ("0000:06:00.0 --> SN: TRCW390010030401", "0000:06:00.0"),
        (" 0001:c1:1f.7", "0001:c1:1f.7"),
        ("", None),
        ("GPU 0000:06:00.0", None),
        ("0000:06:00.9", None),
    ],
)
def test_addresses_are_written_as_the_kernel_writes_them(text: str, address: str | None) -> None:
    assert read_address(text) == address
