from pathlib import Path

import pytest

from banyan.foundation.errors import ModelError
from banyan.models.json_fields import Fields, read_json


def test_a_field_that_is_null_counts_as_absent() -> None:
    fields = Fields({"size": None}, "config.json")
    assert not fields.has("size")
    assert fields.integer("size", 3) == 3


def test_an_absent_field_without_a_default_is_named() -> None:
    with pytest.raises(ModelError, match=r"config\.json lacks the field 'size'"):
        Fields({}, "config.json").integer("size")


@pytest.mark.parametrize("value", ["64", 64.0, True, [64]])
def test_a_size_of_another_type_is_refused_with_its_value(value: object) -> None:
    with pytest.raises(ModelError, match="'size' must be an integer, found"):
        Fields({"size": value}, "config.json").integer("size")


def test_a_size_below_its_minimum_is_refused() -> None:
    with pytest.raises(ModelError, match="'size' must be at least 1, found 0"):
        Fields({"size": 0}, "config.json").integer("size")


def test_numbers_accept_integers_and_refuse_text_and_flags() -> None:
    assert Fields({"x": 2}, "c").number("x") == 2.0
    assert Fields({}, "c").optional_number("x") is None
    for value in ("2", True):
        with pytest.raises(ModelError, match="must be a number"):
            Fields({"x": value}, "c").number("x")


def test_flags_and_texts_refuse_other_types() -> None:
    with pytest.raises(ModelError, match="'x' must be true or false, found 1"):
        Fields({"x": 1}, "c").flag("x", False)
    with pytest.raises(ModelError, match="'x' must be a string, found 1"):
        Fields({"x": 1}, "c").text("x")


def test_one_integer_and_a_list_of_integers_are_both_a_tuple() -> None:
    assert Fields({"x": 2}, "c").integers("x") == (2,)
    assert Fields({"x": [2, 3]}, "c").integers("x") == (2, 3)
    assert Fields({}, "c").integers("x") == ()
    with pytest.raises(ModelError, match="a list of integers"):
        Fields({"x": ["2"]}, "c").integers("x")


def test_a_list_of_texts_refuses_one_text() -> None:
    assert Fields({"x": ["a"]}, "c").texts("x") == ("a",)
    with pytest.raises(ModelError, match="a list of strings"):
        Fields({"x": "a"}, "c").texts("x")


def test_nested_fields_name_where_they_came_from() -> None:
    nested = Fields({"rope": {"factor": "2"}}, "config.json").nested("rope")
    assert nested is not None
    with pytest.raises(ModelError, match=r"config\.json \(rope\): 'factor' must be a number"):
        nested.number("factor")
    assert Fields({}, "c").nested("rope") is None
    with pytest.raises(ModelError, match="'rope' must be a JSON object"):
        Fields({"rope": 1}, "c").nested("rope")


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json does not exist"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{ not json")
    with pytest.raises(ModelError, match=r"config\.json cannot be read as JSON"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="must hold a JSON object, found list"):
        Fields.read(tmp_path / "config.json")


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"deep\.json cannot be read as JSON"):
        read_json(tmp_path / "deep.json")
