from pathlib import Path

from banyan.devices.chip import DeviceUsage, No, Yes
from banyan.devices.chips.enflame import VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample

GCU = ("0000:17:00.0", "1e36", "c035", "120000")


def test_a_gcu_is_read_from_the_sections_of_efsmi(tmp_path: Path) -> None:
    answer, facts, usage = look(VENDOR, machine(tmp_path, GCU), {"efsmi": sample("efsmi.txt")})
    assert answer == Yes("1 Enflame GCU(s) listed by efsmi")
    assert (facts[0].name, facts[0].model, facts[0].bus) == ("enflame:0", "S60", "0000:17:00.0")
    assert (facts[0].memory_bytes, facts[0].power_limit_watts) == (42976 * MEBIBYTE, 300.0)
    assert usage == (DeviceUsage("A0A1650510676", 1024 * MEBIBYTE, 0.3, 45.0, 102.0),)


def test_older_drivers_name_the_memory_otherwise(tmp_path: Path) -> None:
    _, facts, usage = look(VENDOR, machine(tmp_path, GCU), {"efsmi": sample("efsmi_old.txt")})
    assert (facts[0].model, facts[0].bus) == ("GCU", None)
    assert facts[0].memory_bytes == 42976 * MEBIBYTE
    assert usage == (DeviceUsage("enflame-0", 1129 * MEBIBYTE, 0.0, 39.0, None),)


def test_a_section_without_memory_is_a_reasoned_no(tmp_path: Path) -> None:
    answer, _, _ = look(VENDOR, machine(tmp_path, GCU), {"efsmi": "DEV ID 0\nDev Name : S60\n"})
    assert isinstance(answer, No)
    assert "device 0 has neither 'Total Size' nor 'Mem Size'" in answer.reason
