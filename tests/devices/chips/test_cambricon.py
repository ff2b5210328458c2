import subprocess
from pathlib import Path

from banyan.devices.chip import DeviceUsage, No, Yes
from banyan.devices.chips.cambricon import VENDOR
from tests.devices.chips.machines import MEBIBYTE, hung, look, machine, sample

MLU = ("0000:65:00.0", "cabc", "0370", "120000")


def test_an_mlu_is_read_from_the_file_that_cnmon_writes(tmp_path: Path) -> None:
    answer, facts, usage = look(
        VENDOR, machine(tmp_path, MLU), {"cnmon info": sample("cnmon_info.json")}
    )
    assert answer == Yes("1 Cambricon MLU(s) listed by cnmon")
    assert (facts[0].name, facts[0].model) == ("cambricon:0", "MLU370-X4")
    assert facts[0].memory_bytes == 23308 * MEBIBYTE
    uuid = "00000000-0000-0000-0000-cabc00000001"
    assert usage == (DeviceUsage(uuid, 1024 * MEBIBYTE, 0.07, 32.0, None),)


def test_a_cnmon_without_json_is_asked_for_its_table(tmp_path: Path) -> None:
    refused = subprocess.CalledProcessError(1, ["cnmon"], "unknown option: -j")
    answers: dict[str, str | Exception] = {"cnmon info": refused, "cnmon": sample("cnmon.txt")}
    answer, facts, usage = look(VENDOR, machine(tmp_path, MLU), answers)
    assert isinstance(answer, Yes)
    assert (facts[0].model, facts[0].driver) == ("MLU370-X4", "v4.20.11")
    assert (facts[0].memory_bytes, facts[0].power_limit_watts) == (23308 * MEBIBYTE, 150.0)
    assert usage == (DeviceUsage("cambricon-0", 1024 * MEBIBYTE, 0.0, 32.0, 30.0),)


def test_a_cnmon_that_hangs_is_not_asked_twice(tmp_path: Path) -> None:
    answers: dict[str, str | Exception] = {
        "cnmon info": hung("cnmon"),
        "cnmon": sample("cnmon.txt"),
    }
    answer, _, _ = look(VENDOR, machine(tmp_path, MLU), answers)
    assert isinstance(answer, No)
    assert "cnmon did not answer within 20 s" in answer.reason
