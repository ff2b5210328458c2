from pathlib import Path

from banyan.devices.chip import DeviceUsage, No, Yes
from banyan.devices.chips.metax import VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample

GPU = ("0000:01:00.0", "9999", "4001", "038000")


def test_a_gpu_is_read_from_the_table_of_mx_smi(tmp_path: Path) -> None:
    answer, facts, usage = look(VENDOR, machine(tmp_path, GPU), {"mx-smi": sample("mx_smi.txt")})
    assert answer == Yes("1 MetaX GPU(s) listed by mx-smi")
    assert (facts[0].name, facts[0].model) == ("metax:0", "MetaX C500")
    assert (facts[0].driver, facts[0].power_limit_watts) == ("2.14.8", 350.0)
    assert facts[0].memory_bytes == 65536 * MEBIBYTE
    assert usage == (DeviceUsage("metax-0000:01:00.0", 858 * MEBIBYTE, 0.0, 45.0, 48.0),)


def test_older_tables_have_no_limit_of_power(tmp_path: Path) -> None:
    _, facts, usage = look(VENDOR, machine(tmp_path, GPU), {"mx-smi": sample("mx_smi_old.txt")})
    assert (facts[0].model, facts[0].power_limit_watts) == ("MXC550", None)
    assert usage[0].power_watts == 44.0


def test_a_row_that_is_cut_is_a_reasoned_no(tmp_path: Path) -> None:
    cut = sample("mx_smi.txt").replace("858/65536 MiB", "858/")
    answer, _, _ = look(VENDOR, machine(tmp_path, GPU), {"mx-smi": cut})
    assert isinstance(answer, No)
    assert "the row of GPU '0' is not understood" in answer.reason
