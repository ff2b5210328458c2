import pytest

from banyan.devices.probing.tables import (
    boxed_rows,
    member,
    objects,
    read_json,
    sections,
    version_after,
)


def test_two_lines_between_borders_are_a_row() -> None:
    text = "+--+--+\n| a | b |\n| c | d |\n+==+==+\n| 0 x | y |\n| z | |\n+--+--+\n| only | one |\n"
    assert list(boxed_rows(text, 2)) == [(("a", "b"), ("c", "d")), (("0 x", "y"), ("z", ""))]


def test_lines_with_other_numbers_of_cells_are_no_rows() -> None:
    assert list(boxed_rows("| a |\n| b |\n| c | d |\n| e | f | g |\n| h | i |\n", 2)) == []


def test_sections_begin_at_their_heads_and_keep_the_first_value() -> None:
    found = sections(
        "Tool : 1\nDEV ID 3\n  Name : a:b\n  Name : c\nDEV ID 4\n no colon\n", r"DEV ID (\d+)"
    )
    assert [section.head[1] for section in found] == ["3", "4"]
    assert found[0].values == {"Name": "a:b"}
    assert found[0].first("Title", "Name") == "a:b"
    assert found[1].first("Name") == ""


def test_a_version_is_what_follows_its_words() -> None:
    assert version_after("Driver Version:5.1.0-server \n", "Driver Version") == "5.1.0-server"
    assert version_after("Version: ", "Version") is None


def test_warnings_before_json_are_skipped() -> None:
    assert read_json('WARNING: [amd] low power\n{"a": [1]} trailing\n') == {"a": [1]}


@pytest.mark.parametrize("text", ["", "null", "{", "[" * 100_000, '{"a": }'])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        read_json(text)


def test_members_and_lists_of_objects_are_checked() -> None:
    assert member({"a": 1}, "a") == 1
    assert member([], "a") is None
    assert objects([{"a": 1}], "list") == [{"a": 1}]
    with pytest.raises(ValueError, match="list is not a list of objects"):
        objects([1], "list")
