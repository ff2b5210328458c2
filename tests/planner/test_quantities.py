import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.quantities import (
    read_bytes,
    read_bytes_per_second,
    read_count,
    read_operations,
    read_per_second,
    read_seconds,
    read_share,
    read_watts,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("50ms", 0.05), ("2s", 2.0), ("5 us", 5e-6), (0.25, 0.25), ("1e-3", 1e-3)]
)
def test_times(text: object, seconds: float) -> None:
    assert read_seconds(text, "t") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("3.35TB/s", 3.35e12), ("200Gbit/s", 25e9), ("25Gbps", 25e8 * 1.25), ("1GiB/s", 2.0**30)],
)
def test_rates(text: str, rate: float) -> None:
    assert read_bytes_per_second(text, "r") == pytest.approx(rate)


def test_a_byte_is_eight_times_a_bit() -> None:
    assert read_bytes_per_second("25GB/s", "r") == 8 * read_bytes_per_second("25Gb/s", "r")


def test_other_quantities() -> None:
    assert read_bytes("24GiB", "m") == 24 * 2**30
    assert read_operations("990T", "o") == read_operations("0.99PFLOPS", "o") == 9.9e14
    assert read_watts("1.2kW", "w") == 1200
    assert read_watts(0, "w") == 0
    assert read_per_second("90/min", "q") == 1.5
    assert read_share("50%", "s") == 0.5
    assert read_count("7", "n", most=7) == 7


@pytest.mark.parametrize(
    "value",
    ["", "fast", "50 parsecs", "-1s", "1e999", "1e99999999999999999999", True, None, [], "nan"],
)
def test_what_is_no_time_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(InputError, match=r"t=.* cannot be used; write a time such as 50ms"):
        read_seconds(value, "t")


def test_nothing_is_refused_where_something_is_needed() -> None:
    assert read_seconds(0, "t", zero=True) == 0
    with pytest.raises(InputError, match=r"memory='0GB' is nothing; write an amount of memory"):
        read_bytes("0GB", "memory")
    with pytest.raises(InputError, match=r"is nothing"):
        read_bytes(0.5, "memory")


def test_counts_and_shares_out_of_range() -> None:
    for value in ("0", 8, 1.5, True, "two"):
        with pytest.raises(InputError, match="write a number from 1 to 7"):
            read_count(value, "n", most=7)
    with pytest.raises(InputError, match="more than everything"):
        read_share("150%", "s")


@given(st.text(max_size=20) | st.integers() | st.floats() | st.none())
def test_whatever_is_written_is_a_finite_rate_or_one_sentence(value: object) -> None:
    try:
        rate = read_bytes_per_second(value, "r")
    except InputError as error:
        assert str(error).startswith("r=")  # noqa: PT017
    else:
        assert 0 < rate < math.inf
