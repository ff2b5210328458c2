from pathlib import Path

import pytest

from banyan.devices.chip import DeviceUsage, No, Yes
from banyan.devices.chips.hygon import VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample

DCU = ("0000:07:00.0", "1d94", "6210", "0b4000")


def test_a_dcu_is_read_from_the_json_of_hy_smi(tmp_path: Path) -> None:
    answer, facts, usage = look(VENDOR, machine(tmp_path, DCU), {"hy-smi": sample("hy_smi.json")})
    assert answer == Yes("1 Hygon DCU(s) listed by hy-smi")
    assert (facts[0].name, facts[0].model) == ("hygon:0", "K100_AI")
    assert facts[0].memory_bytes == 65520 * MEBIBYTE
    assert usage == (DeviceUsage("7100fa8866904061", 2 * MEBIBYTE, 0.0, 41.0, 80.0),)


def test_newer_tools_say_hcu_and_give_the_bus(tmp_path: Path) -> None:
    root = machine(tmp_path, ("0000:06:00.0", "1d94", "55b7", "038000"))
    _, facts, usage = look(VENDOR, root, {"hy-smi": sample("hy_smi_new.json")})
    assert (facts[0].bus, facts[0].power_limit_watts) == ("0000:06:00.0", 300.0)
    assert usage == (DeviceUsage("hygon-0000:06:00.0", 3277 * MEBIBYTE, 0.03, 70.0, 108.0),)


def test_the_older_name_of_the_tool_is_tried_next(tmp_path: Path) -> None:
    answer, _, _ = look(VENDOR, machine(tmp_path, DCU), {"rocm-smi": sample("hy_smi.json")})
    assert answer == Yes("1 Hygon DCU(s) listed by rocm-smi")


@pytest.mark.parametrize("kind", ["060000", "108000", "0c0330"])
def test_other_parts_of_hygons_processors_do_not_count(tmp_path: Path, kind: str) -> None:
    root = machine(tmp_path, ("0000:05:00.2", "1d94", "1456", kind))
    answer, _, _ = look(VENDOR, root, {"hy-smi": sample("hy_smi.json")})
    assert answer == No("no Hygon DCU in this machine's PCI list")
