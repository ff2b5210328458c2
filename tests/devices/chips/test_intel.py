import subprocess
from pathlib import Path

import pytest

from banyan.devices.chip import DeviceUsage, No, Yes
from banyan.devices.chips.intel import VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample

FLEX = ("0000:4d:00.0", "8086", "56c0", "038000")
SAID: dict[str, str | Exception] = {
    "xpu-smi discovery -j": sample("xpu_smi_discovery.json"),
    "xpu-smi discovery -d 0 -j": sample("xpu_smi_device.json"),
    "xpu-smi stats -d 0 -j": sample("xpu_smi_stats.json"),
}


def test_a_gpu_is_read_from_the_json_of_xpu_smi(tmp_path: Path) -> None:
    answer, facts, usage = look(VENDOR, machine(tmp_path, FLEX), SAID)
    assert answer == Yes("1 Intel GPU(s) listed by xpu-smi")
    assert (facts[0].name, facts[0].bus) == ("intel:0", "0000:4d:00.0")
    assert facts[0].model == "Intel(R) Data Center GPU Flex Series 170"
    assert (facts[0].memory_bytes, facts[0].driver) == (14336 * MEBIBYTE, "16999259")
    uuid = "01000000-0000-004d-0000-000856c08086"
    assert usage == (DeviceUsage(uuid, 113 * MEBIBYTE, 0.0, 38.0, 49.0),)


def test_a_user_who_may_not_read_the_load_sees_the_gpu_all_the_same(tmp_path: Path) -> None:
    refused = subprocess.CalledProcessError(1, ["xpu-smi"], "permission denied")
    _, facts, usage = look(
        VENDOR, machine(tmp_path, FLEX), SAID | {"xpu-smi stats -d 0 -j": refused}
    )
    assert facts[0].memory_bytes == 14336 * MEBIBYTE
    assert (usage[0].utilisation, usage[0].power_watts) == (None, None)


@pytest.mark.parametrize(
    "device",
    [
        ("0000:00:02.0", "8086", "4680", "030000"),
        ("0000:00:0b.0", "8086", "7d1d", "118000"),
        ("0000:00:0b.1", "8086", "643e", "120000"),
        ("0000:01:00.0", "8086", "4940", "0b4000"),
    ],
    ids=["graphics of a processor", "NPU of a processor", "NPU as an accelerator", "QuickAssist"],
)
def test_what_is_no_card_does_not_count(tmp_path: Path, device: tuple[str, str, str, str]) -> None:
    answer, facts, _ = look(VENDOR, machine(tmp_path, device), SAID)
    assert answer == No("no Intel GPU in this machine's PCI list")
    assert facts == ()


def test_virtual_functions_and_other_kinds_of_device_are_left_out(tmp_path: Path) -> None:
    listed = (
        '{"device_list": [{"device_id": 0, "device_type": "GPU", "device_function_type": '
        '"virtual"}, {"device_id": 1, "device_type": "NNP"}]}'
    )
    answer, _, _ = look(VENDOR, machine(tmp_path, FLEX), {"xpu-smi discovery -j": listed})
    assert isinstance(answer, No)
    assert "xpu-smi lists none" in answer.reason


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ('{"error": "Level Zero Initialization Error"}', "it reports: Level Zero Init"),
        (sample("xpu_smi_kunlun.txt"), "there is no JSON in the output"),
        ('{"device_list": {}}', "device_list is not a list of objects"),
    ],
)
def test_errors_and_kunlunxins_tool_of_the_same_name_are_a_reasoned_no(
    tmp_path: Path, listed: str, message: str
) -> None:
    answer, _, _ = look(VENDOR, machine(tmp_path, FLEX), {"xpu-smi discovery -j": listed})
    assert isinstance(answer, No)
    assert message in answer.reason
