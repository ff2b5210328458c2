from pathlib import Path

from banyan.devices.chip import DeviceUsage, No, Yes
from banyan.devices.chips.kunlunxin import VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample

XPU = ("0000:03:00.0", "1d22", "3688", "120000")


def test_xpus_are_read_from_the_lines_of_xpu_smi(tmp_path: Path) -> None:
    answer, facts, usage = look(
        VENDOR, machine(tmp_path, XPU), {"xpu_smi -m": sample("xpu_smi_kunlun.txt")}
    )
    assert answer == Yes("2 Kunlunxin XPU(s) listed by xpu_smi")
    assert [(device.name, device.model) for device in facts] == [
        ("kunlunxin:0", "P800 OAM"),
        ("kunlunxin:1", "P800 OAM"),
    ]
    assert facts[1].memory_bytes == 98304 * MEBIBYTE
    assert usage[1] == DeviceUsage("02K15K624CV0030V-1", 90440 * MEBIBYTE, 0.0, 39.0, 86.0)


def test_cards_that_call_themselves_by_the_newer_vendor_number_count(tmp_path: Path) -> None:
    root = machine(tmp_path, ("0000:21:00.0", "2057", "3686", "120000"))
    answer, _, _ = look(VENDOR, root, {"xpu-smi -m": sample("xpu_smi_kunlun.txt")})
    assert answer == Yes("2 Kunlunxin XPU(s) listed by xpu-smi")


def test_intels_tool_of_the_same_name_is_told_apart(tmp_path: Path) -> None:
    intel = {"xpu-smi": sample("xpu_smi_discovery.json")}
    answer, facts, _ = look(VENDOR, machine(tmp_path, XPU), intel)
    assert isinstance(answer, No)
    assert "is this Kunlunxin's xpu-smi?" in answer.reason
    assert facts == ()


def test_older_cards_tell_milliwatts(tmp_path: Path) -> None:
    line = sample("xpu_smi_kunlun.txt").splitlines()[0].replace(" 86 1450", " 33120 1450")
    _, _, usage = look(VENDOR, machine(tmp_path, XPU), {"xpu_smi": line})
    assert usage[0].power_watts == 33.12


def test_a_line_that_is_cut_is_a_reasoned_no(tmp_path: Path) -> None:
    line = sample("xpu_smi_kunlun.txt")[:60]
    answer, _, _ = look(VENDOR, machine(tmp_path, XPU), {"xpu_smi": line})
    assert isinstance(answer, No)
    assert "columns, fewer than 22" in answer.reason
