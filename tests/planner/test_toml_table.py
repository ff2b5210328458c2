import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.toml_table import Table, read_text, read_texts


def test_tables_in_tables_are_named_in_errors() -> None:
    table = Table.read('[a]\nb = "x"\n[[c]]\n[[c]]\nd = 1', "f.toml")
    assert table.table("a").value("b", read_text, example='"x"') == "x"
    assert [one.place for one in table.tables("c")] == ["f.toml [[c]] 1", "f.toml [[c]] 2"]
    with pytest.raises(InputError, match=r"f.toml \[a\] lacks 'e'; add a line such as e = 3"):
        table.table("a").value("e", read_text, example="3")
    with pytest.raises(InputError, match=r"f.toml \[\[c\]\] 2: d=1 cannot be used; write a text"):
        table.tables("c")[1].value("d", read_text, example='"x"')


def test_an_unknown_key_is_refused_with_the_one_most_like_it() -> None:
    table = Table.read("bandwith = 1", "f.toml")
    with pytest.raises(InputError, match="unknown key 'bandwith'; did you mean 'bandwidth'"):
        table.allow("bandwidth", "memory")
    with pytest.raises(InputError, match="known are memory"):
        table.allow("memory")


def test_what_stands_where_a_table_should_is_refused() -> None:
    table = Table.read("a = 1\nb = [1]", "f.toml")
    with pytest.raises(InputError, match=r"f.toml: a=1 cannot be used; write a table \[a\]"):
        table.table("a")
    with pytest.raises(InputError, match=r"write tables \[\[b\]\]"):
        table.tables("b")
    assert dict(Table.read("", "f.toml").named_tables()) == {}


def test_text_that_is_no_toml_names_the_line() -> None:
    with pytest.raises(InputError, match=r"f.toml is no TOML: .*line 2"):
        Table.read("a = 1\nb = = 2", "f.toml")
    with pytest.raises(InputError, match="is no TOML"):
        Table.read("a = " + "[" * 100_000, "f.toml")


def test_lists_of_texts() -> None:
    assert read_texts(["a", "b"], "n") == ("a", "b")
    for value in ("ab", 1, ["a", 2], ["a", ""]):
        with pytest.raises(InputError, match="n="):
            read_texts(value, "n")


@given(st.text(max_size=200))
def test_any_text_is_a_table_or_one_sentence(text: str) -> None:
    try:
        table = Table.read(text, "f.toml")
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert isinstance(table.values, dict)
