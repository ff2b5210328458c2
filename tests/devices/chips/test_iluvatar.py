from pathlib import Path

from banyan.devices.chip import DeviceUsage, Yes
from banyan.devices.chips.iluvatar import VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample


def test_gpus_are_read_from_the_lines_of_ixsmi(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        ("0000:0c:00.0", "1e3e", "0003", "120000"),
        ("0000:0d:00.0", "1e3e", "0003", "120000"),
    )
    answer, facts, usage = look(VENDOR, root, {"ixsmi": sample("ixsmi.csv")})
    assert answer == Yes("2 Iluvatar GPU(s) listed by ixsmi")
    assert [(device.name, device.model) for device in facts] == [
        ("iluvatar:0", "Iluvatar MR-V50"),
        ("iluvatar:1", "Iluvatar MR-V100"),
    ]
    assert facts[1].memory_bytes == 32768 * MEBIBYTE
    assert usage[1] == DeviceUsage("iluvatar-1", 27996 * MEBIBYTE, 0.0, 36.0, None)
