import pytest

from banyan.gateway.errors import ApiError
from banyan.gateway.fill_in_middle import middle_prompt
from tests.gateway.vocabulary import Vocabulary

A, B = 1000 + ord("a"), 1000 + ord("b")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["<s>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"], [0, 1, A, 2, B, 3]),
        (["<s>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>"], [0, 1, A, 2, B, 3]),
        (["<s>", "\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"], [0, 1, A, 2, B, 3]),
        (["<s>", "[PREFIX]", "[SUFFIX]"], [0, 2, B, 1, A]),
    ],
    ids=["Qwen", "StarCoder", "Code Llama", "Codestral"],
)
def test_a_middle_is_asked_for_as_the_family_was_trained(
    entries: list[str], expected: list[int]
) -> None:
    assert middle_prompt(Vocabulary(entries), before="a", after="b") == expected


def test_a_model_without_all_the_marks_is_refused() -> None:
    with pytest.raises(ApiError, match="no tokens for it"):
        middle_prompt(Vocabulary(["<s>", "<|fim_prefix|>"]), before="a", after="b")
