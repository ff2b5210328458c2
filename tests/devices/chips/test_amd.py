import json
from pathlib import Path

import pytest

from banyan.devices.chip import DeviceUsage, No, Yes
from banyan.devices.chips.amd import VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample

CARD = ("0000:03:00.0", "1002", "747e", "030000")
INTEGRATED = ("0000:c5:00.0", "1002", "1586", "030000")


def test_a_card_is_read_from_the_json_of_rocm_smi(tmp_path: Path) -> None:
    answer, facts, usage = look(
        VENDOR, machine(tmp_path, CARD), {"rocm-smi": sample("rocm_smi.json")}
    )
    assert answer == Yes("1 AMD GPU(s) listed by rocm-smi")
    assert facts[0].name == "amd:0"
    assert facts[0].model == "Navi 32 [Radeon RX 7700 XT / 7800 XT]"
    assert (facts[0].memory_bytes, facts[0].features) == (17163091968, ("gfx11001",))
    assert usage == (DeviceUsage("0x5c88007d760374f3", 11615076352, 1.0, 45.0, 53.0),)


@pytest.mark.parametrize(
    "device",
    [
        INTEGRATED,
        ("0000:01:05.0", "1002", "515e", "030000"),
        ("0000:01:06.0", "1002", "4752", "030000"),
        ("0000:03:00.1", "1002", "ab30", "040300"),
        ("0000:03:00.2", "1002", "not hexadecimal", "030000"),
    ],
    ids=["in a processor", "ES1000 of a BMC", "Rage XL of a BMC", "sound", "damaged"],
)
def test_what_is_no_card_does_not_count(tmp_path: Path, device: tuple[str, str, str, str]) -> None:
    said = {"rocm-smi": sample("rocm_smi_integrated.json")}
    answer, facts, _ = look(VENDOR, machine(tmp_path, device), said)
    assert answer == No("no AMD GPU in this machine's PCI list")
    assert facts == ()


def test_the_graphics_of_the_processor_beside_a_card_are_left_out(tmp_path: Path) -> None:
    both = (
        sample("rocm_smi.json").rstrip()[:-1]
        + ","
        + (sample("rocm_smi_integrated.json").strip()[1:].replace("card0", "card1"))
    )
    answer, facts, _ = look(VENDOR, machine(tmp_path, CARD, INTEGRATED), {"rocm-smi": both})
    assert answer == Yes("1 AMD GPU(s) listed by rocm-smi")
    assert [device.name for device in facts] == ["amd:0"]


MI300X = ("0000:05:00.0", "1002", "74a1", "120000")
SUCCESSOR = {
    "amd-smi static": sample("amd_smi_static.json"),
    "amd-smi metric": sample("amd_smi_metric.json"),
}


def test_the_successor_of_rocm_smi_is_asked_where_that_is_gone(tmp_path: Path) -> None:
    answer, facts, usage = look(VENDOR, machine(tmp_path, MI300X), SUCCESSOR)
    assert answer == Yes("2 AMD GPU(s) listed by amd-smi")
    assert (facts[0].name, facts[0].model) == ("amd:0", "AMD Instinct MI300X")
    assert (facts[0].features, facts[0].driver) == (("gfx942",), "6.10.5")
    assert facts[0].memory_bytes == 196592 * MEBIBYTE
    assert usage[0] == DeviceUsage("amd-0000:05:00.0", 17153 * MEBIBYTE, 0.94, 51.0, 612.0)
    assert usage[1] == DeviceUsage("amd-0000:26:00.0", 284 * MEBIBYTE, 0.0, None, None)


def test_its_older_releases_give_a_list(tmp_path: Path) -> None:
    lists = {name: json.dumps(json.loads(said)["gpu_data"]) for name, said in SUCCESSOR.items()}
    _, facts, _ = look(VENDOR, machine(tmp_path, MI300X), lists)
    assert [device.name for device in facts] == ["amd:0", "amd:1"]


def test_an_instinct_accelerator_counts(tmp_path: Path) -> None:
    answer, _, _ = look(VENDOR, machine(tmp_path, MI300X), {})
    assert answer == No(
        "1 AMD device(s) on the PCI bus, but the command rocm-smi or amd-smi is missing; "
        "install ROCm",
        is_present=True,
    )
