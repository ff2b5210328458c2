"""NaN is found in whatever elements a device gives, and nothing else is taken for it."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.stages.part import has_nan

FLOATS = ("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2")
ORDINARY = (0.0, -0.0, 1.5, -448.0)
HAVE_INFINITY = ("float16", "bfloat16", "float32", "float64", "float8_e5m2")


def kind(name: str) -> np.dtype[np.generic]:
    return np.dtype(getattr(ml_dtypes, name, name))


@pytest.mark.parametrize("name", FLOATS)
def test_a_nan_of_either_sign_is_found_wherever_it_lies(name: str) -> None:
    for wrong in (np.nan, np.copysign(np.nan, -1)):
        for place in range(4):
            row = np.array(ORDINARY, kind(name))
            row[place] = wrong
            assert has_nan(row.reshape(2, 2))
            assert has_nan(np.tile(row, 100).reshape(4, 100))


@pytest.mark.parametrize("name", FLOATS)
def test_numbers_and_infinities_are_no_nan(name: str) -> None:
    infinities = (np.inf, -np.inf) if name in HAVE_INFINITY else ()
    sound = np.array([*ORDINARY, *infinities], kind(name))
    assert not has_nan(sound)
    assert not has_nan(np.tile(sound, 100))
    assert not has_nan(np.zeros((0, 3), kind(name)))


def test_only_the_column_that_is_asked_about_is_looked_at() -> None:
    rows = np.zeros((3, 4), kind("bfloat16"))
    rows[1, 2] = np.nan
    assert not has_nan(rows[..., :1])
    assert has_nan(rows[..., 2:3])


@given(st.binary(min_size=4, max_size=32), st.sampled_from(("float16", "bfloat16", "float32")))
def test_every_pattern_of_bits_is_judged_as_by_its_value(raw: bytes, name: str) -> None:
    size = kind(name).itemsize
    array = np.frombuffer(raw[: len(raw) // size * size], kind(name))
    with np.errstate(invalid="ignore"):
        wanted = bool(np.isnan(array.astype(np.float64)).any())
    assert has_nan(array) == wanted
    assert has_nan(np.tile(array, 100)) == wanted


def test_integers_have_none() -> None:
    assert not has_nan(np.array([-1, 3], np.int8))
