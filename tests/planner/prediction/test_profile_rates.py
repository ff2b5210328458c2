from dataclasses import replace

import pytest

from banyan.devices.profile import DeviceProfile
from banyan.devices.rates import DecodeRate, LinearRate, PrefillRate, RowRate
from banyan.foundation.errors import InputError
from banyan.planner.prediction.profile_rates import rates_of_profile

CEILINGS = DeviceProfile(
    fingerprint="f",
    model="A chip",
    measured_on="2026-11-22",
    num_threads=2,
    read_bytes_per_second=1e10,
    read_bytes_per_second_one_thread=6e9,
    copy_bytes_per_second=1e10,
    operations_per_second=(("float32", 1e11),),
    operations_per_second_one_thread=(("float32", 6e10),),
    launch_seconds=1e-4,
)
PROFILE = replace(
    CEILINGS,
    kernel_seconds=1e-6,
    linear_rates=(
        LinearRate("int8", "bfloat16", 1, 100, 200, 100, 2e9),
        LinearRate("int8", "bfloat16", 64, 100, 200, 100, 1e9),
    ),
    decode_rates=(DecodeRate("bfloat16", 4, 256, 4, 64, 1e9), DecodeRate("fp8", 1, 8, 4, 64, 1e9)),
    prefill_rates=(PrefillRate("bfloat16", 16, 16, 4, 64, 1e9),),
    row_rates=(RowRate("norm", "bfloat16", 8, 100, 1e8),),
)


def test_a_rate_gives_back_the_time_it_was_measured_with() -> None:
    rates = rates_of_profile(PROFILE, vendor="here", memory_bytes=10**9)
    linear = 20_000 / 2e9 + 1e-6
    assert rates.linear_seconds("int8", 1, 200, 100) == pytest.approx(linear)
    # Keys and values of 8 heads of 64 numbers of 2 bytes, 4 sequences of 256 tokens.
    decode = rates.attention_seconds("bfloat16", (32, 8, 64), 4, 1, 4 * 256)
    assert decode == pytest.approx(4 * 256 * 2 * 8 * 64 * 2 / 1e9)
    prompt = rates.attention_seconds("bfloat16", (32, 8, 64), 1, 16, 16 * 17 / 2)
    assert prompt == pytest.approx(4 * 32 * 64 * 136 / 1e9)
    assert rates.elementwise_seconds(2 * 800 * 2) == pytest.approx(800 / 1e8 + 1e-6)
    assert rates.program_seconds == 1e-4


def test_8_bit_floats_have_the_name_that_models_give_them() -> None:
    rates = rates_of_profile(PROFILE, vendor="here", memory_bytes=10**9)
    assert rates.attention_forms() == {"bfloat16", "float8"}


def test_a_profile_of_ceilings_only_asks_to_measure_programs() -> None:
    with pytest.raises(InputError, match=r"no programs, only ceilings; run `banyan devices"):
        rates_of_profile(CEILINGS, vendor="here", memory_bytes=10**9)


def test_the_type_takes_the_name_that_an_inventory_has_for_it() -> None:
    rates = rates_of_profile(PROFILE, vendor="here", memory_bytes=7, name="box", watts_busy=90.0)
    kind = rates.device_type()
    assert (kind.name, kind.memory_bytes, kind.watts_busy) == ("box", 7, 90.0)
    assert kind.operations_per_second["int8"] == pytest.approx(2 * 64e9, rel=0.1)
