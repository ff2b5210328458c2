from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.devices.probing.quantities import (
    read_bytes,
    read_celsius,
    read_index,
    read_share,
    read_watts,
)


@pytest.mark.parametrize(
    ("value", "unit", "num_bytes"),
    [
        ("65536 MiB", "mib", 65536 * 1024**2),
        ("65536", "mib", 65536 * 1024**2),
        ("32768MB", "mib", 32768 * 1024**2),
        ("17163091968", "b", 17163091968),
        ("98304 kB", "mib", 98304 * 1024),
        (64, "gib", 64 * 1024**3),
        ("3.5 GiB", "mib", 3758096384),
    ],
)
def test_memory_is_read_with_or_without_its_unit(value: object, unit: str, num_bytes: int) -> None:
    assert read_bytes(value, unit) == num_bytes


@pytest.mark.parametrize("value", [None, "", " - ", "N/A", "[N/A]", "[Not Supported]", "ERR!"])
def test_words_for_unknown_are_none(value: object) -> None:
    assert read_bytes(value) is None
    assert read_share(value) is None
    assert read_celsius(value) is None
    assert read_watts(value) is None


@pytest.mark.parametrize(
    "value", ["3,5 GiB", "12 Mio", "-1 MiB", "1e999", "NaN", "0x10", True, "1" * 40, {}]
)
def test_what_is_no_number_is_refused_with_its_text(value: object) -> None:
    with pytest.raises(ValueError, match="is not an amount of memory"):
        read_bytes(value)


def test_shares_degrees_and_watts_have_their_own_units() -> None:
    assert read_share("55 %") == 0.55
    assert read_share("0") == 0.0
    assert read_celsius("41C") == 41.0
    assert read_celsius("-5") == -5.0
    assert read_watts("76.50 W") == 76.5
    assert read_watts("33120 mW") == 33.12
    assert (read_share("-1"), read_watts(-1)) == (None, None)
    with pytest.raises(ValueError, match="'41 F' is not a temperature"):
        read_celsius("41 F")


def test_long_nonsense_is_quoted_in_part() -> None:
    with pytest.raises(ValueError, match=r"'x{40}\.\.\.' is not a power"):
        read_watts("x" * 500)


@pytest.mark.parametrize("value", ["-1", "1.0", "", None, True, "1234567", "\N{SUPERSCRIPT TWO}"])
def test_the_number_of_a_device_is_a_whole_number_from_0(value: object) -> None:
    assert read_index("7") == 7
    with pytest.raises(ValueError, match="is not the number of a device"):
        read_index(value)


@given(st.text(max_size=30))
def test_any_text_is_a_number_none_or_refused(text: str) -> None:
    for read in (read_bytes, read_share, read_celsius, read_watts, read_index):
        with suppress(ValueError):
            assert isinstance(read(text), float | int | None)
