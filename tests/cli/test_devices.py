import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from banyan.cli import devices
from banyan.cli.devices import Measuring, run_devices
from banyan.devices.cpu_probe import CpuProbe
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


def test_json_carries_devices_absences_and_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "measure_device", profile)
    run_devices(measure=Measuring(), as_json=True, settings=Settings(tmp_path))
    values = json.loads(capsys.readouterr().out)
    assert values["default"]["device"] == "cpu"
    assert values["devices"][0]["name"] == "cpu"
    assert values["profile"]["measured_on"] == "2026-01-02"
