from pathlib import Path

from banyan.devices.chip import DeviceUsage, Yes
from banyan.devices.chips.t_head import VENDOR
from tests.devices.chips.machines import MEBIBYTE, look, machine, sample


def test_a_ppu_is_read_from_the_lines_of_ppu_smi_with_or_without_their_header(
    tmp_path: Path,
) -> None:
    root = machine(tmp_path, ("0000:08:00.0", "1ded", "6001", "030200"))
    with_header = sample("ppu_smi.csv")
    for said in (with_header, with_header.splitlines()[1]):
        answer, facts, usage = look(VENDOR, root, {"ppu-smi": said})
        assert answer == Yes("1 T-Head PPU(s) listed by ppu-smi")
        assert (facts[0].name, facts[0].model) == ("t_head:0", "PPU-ZW810E")
        assert facts[0].memory_bytes == 98304 * MEBIBYTE
        assert usage == (DeviceUsage("GPU-019a4c8b", 1024 * MEBIBYTE, 0.12, 44.0, 121.0),)
