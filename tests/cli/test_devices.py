import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from banyan.cli import devices
from banyan.cli.devices import Measuring, as_values, print_findings, run_devices
from banyan.devices.chip import DeviceFacts, No, Yes
from banyan.devices.chips.amd import CHIP as AMD_CHIP
from banyan.devices.chips.ascend import CHIP as ASCEND_CHIP
from banyan.devices.chips.metax import CHIP as METAX_CHIP
from banyan.devices.chips.nvidia import CUDA_CHIP
from banyan.devices.cpu_probe import CPU_CHIP, CpuProbe
from banyan.devices.discovery import Finding
from banyan.devices.profile import DeviceProfile, fingerprint_of
from banyan.devices.rates import DecodeRate, LinearRate, PrefillRate
from banyan.foundation.settings import Settings


def profile(*_: Any, **__: Any) -> DeviceProfile:
    facts = CpuProbe().inventory()[0]
    return DeviceProfile(
        fingerprint=fingerprint_of(facts, num_threads=facts.cores),
        model=facts.model,
        measured_on="2026-01-02",
        num_threads=facts.cores,
        read_bytes_per_second=2e10,
        read_bytes_per_second_one_thread=1e10,
        copy_bytes_per_second=2e10,
        operations_per_second=(("float32", 3e11),),
        operations_per_second_one_thread=(("float32", 1e11),),
        launch_seconds=1e-6,
    )


def test_devices_are_listed_with_the_reason_for_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_devices(measure=None, as_json=False, settings=Settings(tmp_path))
    said = capsys.readouterr().out
    assert "Default: cpu, because" in said
    assert "banyan devices --measure" in said


def test_a_measurement_is_kept_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "measure_device", profile)
    run_devices(measure=Measuring(), as_json=False, settings=Settings(tmp_path))
    run_devices(measure=None, as_json=False, settings=Settings(tmp_path))
    said = capsys.readouterr().out
    assert said.count("reads 20.0 GB/s (one thread 10.0)") == 2
    assert "float32: 300 GFLOP/s (one thread 100)" in said
    assert said.count("Ceilings only") == 2


def test_rates_of_programs_are_shown_by_rows_and_by_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = replace(
        profile(),
        linear_rates=(
            LinearRate("float32", "float32", 1, 64, 64, 0, 1e9),
            LinearRate("float32", "float32", 16, 64, 64, 0, 5e8),
            LinearRate("int8", "bfloat16", 16, 64, 64, 64, 1e10),
        ),
        decode_rates=(DecodeRate("bfloat16", 4, 256, 4, 128, 2.5e10),),
        prefill_rates=(PrefillRate("bfloat16", 64, 1024, 4, 128, 3e11),),
    )
    monkeypatch.setattr(devices, "measure_device", lambda *args, **options: measured)
    run_devices(measure=Measuring(), as_json=False, settings=Settings(tmp_path))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "linear layers, GFLOP/s 1 row(s) 16 row(s)" in lines
    assert "float32 2 16" in lines
    assert "int8 - 320" in lines
    assert "bfloat16 25.0" in lines
    assert "bfloat16 300" in lines


def found() -> tuple[Finding, ...]:
    """A machine with an NPU, and a card whose driver is not installed."""
    npu = DeviceFacts("a", "ascend:0", "Ascend910B2", 65536 * 2**20, 1, (), bus="0000:c1:00.0")
    return (
        Finding(CPU_CHIP, Yes("here"), (CpuProbe().inventory()[0],)),
        Finding(ASCEND_CHIP, Yes("listed"), (npu,)),
        Finding(CUDA_CHIP, No("1 NVIDIA device(s) on the PCI bus, but ...", is_present=True), ()),
        Finding(AMD_CHIP, No("no AMD GPU in this machine's PCI list"), ()),
        Finding(METAX_CHIP, No("no MetaX GPU in this machine's PCI list"), ()),
    )


def test_every_chip_is_shown_with_what_it_can_do_or_why_not() -> None:
    written = StringIO()
    print_findings(Console(file=written, width=250), found())
    lines = [line.strip() for line in written.getvalue().splitlines()]
    assert lines[1].endswith("runs cpp programs (verified)")
    npu = next(line for line in lines if line.split()[0] == "ascend:0")
    assert npu.endswith("runs nothing yet (described); card ascend-910b")
    assert "cuda: 1 NVIDIA device(s) on the PCI bus, but ..." in lines
    assert "Not in this machine's PCI list: amd, metax" in lines


def test_json_says_of_every_chip_what_it_can_do_or_why_not() -> None:
    values = as_values(found(), None)
    npu = values["devices"][1]
    assert (npu["chip"], npu["vendor"], npu["bus"]) == ("ascend", "Huawei Ascend", "0000:c1:00.0")
    assert (npu["target"], npu["status"], npu["card"]) == (None, "described", "ascend-910b")
    assert values["absent"] == [
        {
            "device": "cuda",
            "vendor": "NVIDIA",
            "present": True,
            "reason": "1 NVIDIA device(s) on the PCI bus, but ...",
        },
        {
            "device": "amd",
            "vendor": "AMD",
            "present": False,
            "reason": "no AMD GPU in this machine's PCI list",
        },
        {
            "device": "metax",
            "vendor": "MetaX",
            "present": False,
            "reason": "no MetaX GPU in this machine's PCI list",
        },
    ]


def test_json_carries_devices_absences_and_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "measure_device", profile)
    run_devices(measure=Measuring(), as_json=True, settings=Settings(tmp_path))
    values = json.loads(capsys.readouterr().out)
    assert values["default"]["device"] == "cpu"
    assert values["devices"][0]["name"] == "cpu"
    assert values["profile"]["measured_on"] == "2026-01-02"
