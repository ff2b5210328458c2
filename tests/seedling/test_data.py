"""Text is unwrapped, listings are dropped, passages stay short."""

from pathlib import Path

from seedling.data import LONGEST_PASSAGE, docstrings, join_lines, paragraphs, passages


def test_wrapped_chinese_lines_join_without_a_space_and_english_ones_with() -> None:
    assert join_lines(["榕树有", "许多根"]) == "榕树有许多根"
    assert join_lines(["one tree", "many roots"]) == "one tree many roots"
    assert join_lines(["一个 Linux", "内核"]) == "一个 Linux 内核"


def test_tables_and_listings_are_left_out() -> None:
    text = "A paragraph that is long enough.\n\n|a|b|\n|-+-|\n\n$ ls -l /usr/share/doc/packages\n"
    assert list(paragraphs(text)) == ["A paragraph that is long enough."]


def test_neighbouring_paragraphs_make_passages_of_limited_length() -> None:
    paragraph = "word " * 60
    found = list(passages("Test", "en", "\n\n".join([paragraph] * 20)))
    assert len(found) > 1
    assert max(len(passage.text) for passage in found) <= LONGEST_PASSAGE


def test_docstrings_of_a_file_are_found(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text('"""Of the module."""\ndef f():\n    """Of f."""\n', encoding="utf-8")
    assert docstrings(source) == "Of the module.\n\nOf f."
