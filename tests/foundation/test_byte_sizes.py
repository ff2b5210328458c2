import pytest

from banyan.foundation.byte_sizes import parse_bytes, show_bytes
from banyan.foundation.errors import InputError


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("8GiB", 8 * 2**30), ("500 MB", 500_000_000), ("1.5g", 1_500_000_000), ("0", 0), ("7", 7)],
)
def test_an_amount_of_memory_is_read_with_its_unit(text: str, num_bytes: int) -> None:
    assert parse_bytes(text, name="memory") == num_bytes


@pytest.mark.parametrize("text", ["", "much", "8 gigs", "-1GiB", "8GiB2", "1e9"])
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match=r"memory='.*' is no amount of memory"):
        parse_bytes(text, name="memory")


def test_an_amount_is_shown_in_the_unit_that_suits_it() -> None:
    shown = [show_bytes(n) for n in (3e12, 7.3e9, 52e6, 12)]
    assert shown == ["3.00 TB", "7.30 GB", "52.00 MB", "12 bytes"]
