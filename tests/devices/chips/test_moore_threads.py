from pathlib import Path

from banyan.devices.chip import DeviceUsage, Yes
from banyan.devices.chips.moore_threads import VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample

GPU = ("0000:04:00.0", "1ed5", "0222", "030000")


def test_a_gpu_is_read_from_the_table_of_mthreads_gmi(tmp_path: Path) -> None:
    answer, facts, usage = look(
        VENDOR, machine(tmp_path, GPU), {"mthreads-gmi": sample("mthreads_gmi.txt")}
    )
    assert answer == Yes("1 Moore Threads GPU(s) listed by mthreads-gmi")
    assert (facts[0].name, facts[0].model) == ("moore_threads:0", "MTT S80")
    assert (facts[0].memory_bytes, facts[0].driver) == (16384 * MEBIBYTE, "2.7.0")
    uuid = "moore_threads-0000:04:00.0"
    assert usage == (DeviceUsage(uuid, 2 * MEBIBYTE, 0.0, 49.0, None),)


def test_newer_tables_have_a_column_more(tmp_path: Path) -> None:
    _, facts, usage = look(
        VENDOR, machine(tmp_path, GPU), {"mthreads-gmi": sample("mthreads_gmi_new.txt")}
    )
    assert [device.model for device in facts] == ["MTT S5000", "MTT S5000"]
    assert (facts[1].bus, facts[1].driver) == ("0000:3a:00.0", "5.1.0-server")
    assert [use.temperature_celsius for use in usage] == [48.0, 48.0]
