import json
from dataclasses import replace
from pathlib import Path

import pytest

from banyan.devices.chip import DeviceFacts
from banyan.devices.profile import DeviceProfile, fingerprint_of, load_profile, save_profile
from banyan.devices.rates import DecodeRate, LinearRate, PrefillRate, RowRate
from banyan.foundation.errors import StorageFull

PROFILE = DeviceProfile(
    fingerprint="abc",
    model="Example 1",
    measured_on="2026-01-01",
    num_threads=2,
    read_bytes_per_second=3e10,
    read_bytes_per_second_one_thread=2e10,
    copy_bytes_per_second=3e10,
    operations_per_second=(("float32", 4e11), ("bfloat16", 2e12)),
    operations_per_second_one_thread=(("float32", 2e11), ("bfloat16", 1e12)),
    launch_seconds=1e-6,
)
MEASURED = replace(
    PROFILE,
    read_rates=((1, 2e10), (2, 3e10)),
    linear_rates=(
        LinearRate("bfloat16", "bfloat16", 16, 2048, 6144, 0, 1e10),
        LinearRate("bfloat16", "bfloat16", 1, 2048, 6144, 0, 2e10),
        LinearRate("int4", "bfloat16", 1, 2048, 6144, 64, 4e10),
    ),
    decode_rates=(DecodeRate("bfloat16", 16, 512, 2, 128, 3e10),),
    prefill_rates=(PrefillRate("bfloat16", 256, 1024, 2, 128, 5e11),),
    row_rates=(RowRate("norm", "bfloat16", 16, 2048, 1e9),),
)
FACTS = DeviceFacts("cpu-1", "cpu", "Example 1", 100, 2, ("avx2",))


def test_a_saved_profile_is_read_back_as_it_was(tmp_path: Path) -> None:
    save_profile(PROFILE, tmp_path)
    assert load_profile("abc", tmp_path) == PROFILE
    assert PROFILE.peaks() == {"float32": 4e11, "bfloat16": 2e12}


def test_measured_programs_are_read_back_as_they_were(tmp_path: Path) -> None:
    save_profile(MEASURED, tmp_path)
    assert load_profile("abc", tmp_path) == MEASURED
    assert MEASURED.has_programs
    assert not PROFILE.has_programs


def test_linear_layers_of_a_format_come_with_the_fewest_rows_first() -> None:
    assert [rate.rows for rate in MEASURED.linear("bfloat16")] == [1, 16]
    assert MEASURED.linear("float32") == ()


def test_a_rate_gives_seconds_and_operations() -> None:
    rate = MEASURED.linear_rates[0]
    assert rate.seconds(2e10) == 2.0
    assert rate.operations_per_second == 3.2e11


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("linear_rates", [{"weights": "int8"}]),
        ("read_rates", [["two", 1.0]]),
        ("kernel_seconds", None),
        ("measured_on", 3),
    ],
)
def test_a_field_of_another_kind_counts_as_never_measured(
    tmp_path: Path, field: str, value: object
) -> None:
    path = save_profile(MEASURED, tmp_path)
    table = json.loads(path.read_text(encoding="utf-8"))
    table[field] = value
    path.write_text(json.dumps(table), encoding="utf-8")
    assert load_profile("abc", tmp_path) is None


def test_a_device_that_was_never_measured_has_no_profile(tmp_path: Path) -> None:
    assert load_profile("abc", tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 999}'])
def test_a_damaged_profile_counts_as_never_measured(tmp_path: Path, text: str) -> None:
    save_profile(PROFILE, tmp_path).write_text(text, encoding="utf-8")
    assert load_profile("abc", tmp_path) is None


def test_a_profile_with_a_rate_that_is_no_number_counts_as_never_measured(tmp_path: Path) -> None:
    path = save_profile(PROFILE, tmp_path)
    table = json.loads(path.read_text(encoding="utf-8"))
    table["operations_per_second"] = [["float32", "fast"]]
    path.write_text(json.dumps(table), encoding="utf-8")
    assert load_profile("abc", tmp_path) is None


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageFull, match="cannot keep the device profile"):
        save_profile(PROFILE, blocked)


def test_another_chip_or_thread_count_has_another_fingerprint() -> None:
    names = {
        fingerprint_of(FACTS, num_threads=2),
        fingerprint_of(FACTS, num_threads=1),
        fingerprint_of(replace(FACTS, model="Example 2"), num_threads=2),
        fingerprint_of(replace(FACTS, features=("avx2", "fma")), num_threads=2),
    }
    assert len(names) == 4
    assert fingerprint_of(FACTS, num_threads=2) == fingerprint_of(replace(FACTS), num_threads=2)
