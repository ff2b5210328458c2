"""Tokens are written as tokenizers of three kinds store them."""

import pytest

from banyan.gateway.token_spelling import TokenSpelling
from tests.gateway.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("entry", "decoded", "expected"),
    [
        ("cat", "cat", [99, 97, 116]),
        ("\u4f60", "\u4f60", [0xE4, 0xBD, 0xA0]),
        ("<0xE4>", "\ufffd", [0xE4]),
        # Byte-level BPE: U+00E4 stands for itself, U+0120 for the space, U+0142 for the byte A0.
        ("\u00e4\u0142", "\ufffd", [0xE4, 0xA0]),
        ("\u0120\u00e4", " \ufffd", [0x20, 0xE4]),
        ("\u4f60x", "\ufffd", None),
        (None, "\ufffd", None),
    ],
)
def test_the_bytes_of_a_token_are_known_also_of_a_part_of_a_character(
    entry: str | None, decoded: str, expected: list[int] | None
) -> None:
    assert TokenSpelling(Vocabulary([entry], decoded)).bytes(0) == expected


def test_a_token_may_be_named_by_its_number() -> None:
    text = Vocabulary(["cat"], "cat")
    assert TokenSpelling(text).name(0) == "cat"
    assert TokenSpelling(text, as_ids=True).name(0) == "token_id:0"
