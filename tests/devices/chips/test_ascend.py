from pathlib import Path

import pytest

from banyan.devices.chip import DeviceUsage, No, Yes
from banyan.devices.chips.ascend import VENDOR, read_logical_numbers
from tests.devices.chips.machines import MEBIBYTE, hung, look, machine, sample

NPU = ("0000:c1:00.0", "19e5", "d802", "120000")
BMC = ("0000:05:00.0", "19e5", "1711", "030000")


def said(name: str) -> dict[str, str | Exception]:
    """The answers of one machine."""
    return {
        "npu-smi info": sample(f"npu_smi_{name}.txt"),
        "npu-smi info -m": sample(f"npu_smi_{name}_map.txt"),
    }


def test_npus_are_named_by_the_numbers_of_the_runtime(tmp_path: Path) -> None:
    answer, facts, usage = look(VENDOR, machine(tmp_path, NPU, BMC), said("910b"))
    assert answer == Yes("2 Huawei Ascend NPU(s) listed by npu-smi")
    assert [(device.name, device.model) for device in facts] == [
        ("ascend:0", "Ascend 910B3"),
        ("ascend:1", "Ascend 910B3"),
    ]
    assert (facts[0].bus, facts[0].driver) == ("0000:c1:00.0", "23.0.rc3.3")
    assert facts[0].memory_bytes == 65536 * MEBIBYTE
    assert usage[0] == DeviceUsage("ascend-0000:c1:00.0", 65099 * MEBIBYTE, 0.55, 41.0, 271.1)


def test_the_memory_on_the_package_counts_and_not_the_other(tmp_path: Path) -> None:
    _, facts, usage = look(VENDOR, machine(tmp_path, NPU), said("910a"))
    assert [device.name for device in facts] == ["ascend:0", "ascend:3"]
    assert facts[1].memory_bytes == 32768 * MEBIBYTE
    assert (usage[1].memory_used_bytes, usage[1].power_watts) == (0, 206.9)


def test_the_display_chip_of_a_servers_ibmc_is_no_npu(tmp_path: Path) -> None:
    answer, facts, _ = look(VENDOR, machine(tmp_path, BMC), said("910b"))
    assert answer == No("no Huawei Ascend NPU in this machine's PCI list")
    assert facts == ()


def test_management_controllers_have_no_logical_number() -> None:
    assert read_logical_numbers(sample("npu_smi_910b_map.txt")) == {
        (3, 0): (0, "Ascend 910B3"),
        (4, 0): (1, "Ascend 910B3"),
    }


def test_a_chip_without_a_logical_number_is_not_guessed(tmp_path: Path) -> None:
    answers = said("910b") | {"npu-smi info -m": "NPU ID   Chip ID   Chip Logic ID   Chip Name\n"}
    answer, facts, _ = look(VENDOR, machine(tmp_path, NPU), answers)
    assert isinstance(answer, No)
    assert "NPU 3 chip 0 has no logical number in npu-smi info -m" in answer.reason
    assert facts == ()


def test_a_row_without_the_number_of_its_chip_is_a_reasoned_no(tmp_path: Path) -> None:
    lost = sample("npu_smi_910b.txt").replace(
        "| 0                         |", "|                           |"
    )
    answer, _, _ = look(VENDOR, machine(tmp_path, NPU), said("910b") | {"npu-smi info": lost})
    assert isinstance(answer, No)
    assert "'' is not the number of a device" in answer.reason


@pytest.mark.parametrize("hanging", ["npu-smi info", "npu-smi info -m"])
def test_either_command_may_hang(tmp_path: Path, hanging: str) -> None:
    answers = said("910b") | {hanging: hung("npu-smi")}
    answer, _, _ = look(VENDOR, machine(tmp_path, NPU), answers)
    assert isinstance(answer, No)
    assert "npu-smi did not answer within 20 s and was stopped" in answer.reason
