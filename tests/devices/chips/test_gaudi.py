from pathlib import Path

from banyan.devices.chip import DeviceUsage, Yes
from banyan.devices.chips.gaudi import QUERY, VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample


def test_an_accelerator_is_read_from_the_lines_of_hl_smi(tmp_path: Path) -> None:
    root = machine(tmp_path, ("0000:4d:00.0", "1da3", "1060", "120000"))
    answer, facts, usage = look(VENDOR, root, {"hl-smi": sample("hl_smi.csv")})
    assert answer == Yes("1 Intel Gaudi accelerator(s) listed by hl-smi")
    assert (facts[0].name, facts[0].model) == ("gaudi:0", "HL-325L")
    assert (facts[0].memory_bytes, facts[0].driver) == (131072 * MEBIBYTE, "1.22.1-97ec1a4")
    assert facts[0].power_limit_watts == 850.0
    uuid = "01P4-HL3090A0-18-U4V193-22-07-00"
    assert usage == (DeviceUsage(uuid, 672 * MEBIBYTE, 0.0, 36.0, 226.0),)


def test_its_tool_takes_the_columns_as_a_word_of_their_own() -> None:
    assert QUERY.command()[:2] == ("hl-smi", "-Q")
    assert QUERY.command()[2].startswith("index,uuid,name,")
    assert QUERY.command()[3:] == ("-f", "csv,noheader")
