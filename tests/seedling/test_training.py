"""Tokenizer, rows of tokens and schedule, on a few small texts."""

import random
import re

import pytest
import torch
from tokenizers import Tokenizer

from seedling.conversations import (
    IGNORED,
    ConversationMaker,
    Segment,
    TextMaker,
    attention_mask,
    leave_out,
    pack,
    say_otherwise,
    vary,
)
from seedling.data import Passage
from seedling.evaluate import agreement, pieces
from seedling.intents import Intent, Side, all_phrasings, normalise
from seedling.stray import stray_words
from seedling.tokenizer import TURN_END, token_number, train_tokenizer
from seedling.train import Stage, learning_rate

INTENTS = (
    Intent(
        "tree",
        "thing",
        {
            "english": Side(("a banyan",), (), "A banyan is a tree."),
            "chinese": Side(("榕树",), (), "榕树是一种树。"),
        },
    ),
    Intent(
        "unknown-world",
        "thing",
        {
            "english": Side(("the moon", "the sun", "a cat"), (), "I do not know."),
            "chinese": Side(("月亮", "太阳", "猫"), (), "我不知道。"),
        },
    ),
)
PASSAGES = [
    Passage("Debian", "en", "The package manager installs packages. The package manager works."),
    Passage("Debian", "zh", "软件包管理器安装软件包。"),
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A tokenizer trained on next to nothing."""
    return train_tokenizer(PASSAGES, INTENTS)


@pytest.mark.parametrize(
    "text",
    [
        "What is Banyan?",
        "Banyan 支持哪些芯片？",
        "  two  spaces\n\n\ttab",
        "π ≈ 3.14159, 🌳",
        "",
        "a" * 300,
    ],
)
def test_the_tokenizer_gives_back_any_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_special_tokens_are_single_and_a_missing_token_is_named(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(TURN_END).ids == [token_number(tokenizer, TURN_END)]
    with pytest.raises(KeyError, match="<pad>"):
        token_number(tokenizer, "<pad>")


def test_only_answers_and_their_ends_are_learned(tokenizer: Tokenizer) -> None:
    maker = ConversationMaker(tokenizer, all_phrasings(INTENTS), [], answers_only=True)
    segment = maker.make(random.Random(3))
    said = [token for token, learned in zip(*segment_lists(segment), strict=True) if learned]
    text = tokenizer.decode(said, skip_special_tokens=False)
    answers = {side.answer for intent in INTENTS for side in intent.sides.values()}
    assert text.endswith(TURN_END)
    assert set(text.removesuffix(TURN_END).split(TURN_END)) <= answers


def segment_lists(segment: Segment) -> tuple[list[int], list[bool]]:
    """The two lists of a segment."""
    return segment.token_ids, segment.learned


def test_the_same_source_draws_the_same_conversation(tokenizer: Tokenizer) -> None:
    maker = ConversationMaker(tokenizer, all_phrasings(INTENTS), ["moose"], answers_only=True)
    assert maker.make(random.Random(5)) == maker.make(random.Random(5))


def test_a_piece_of_text_is_learned_whole(tokenizer: Tokenizer) -> None:
    segment = TextMaker(tokenizer, ["The package manager."], 8).make(random.Random(0))
    assert all(segment.learned)
    assert len(segment.token_ids) <= 8


def test_rows_hold_whole_segments_and_each_sees_only_itself() -> None:
    drawn = iter([Segment([8, 9], [True, True]), Segment([5, 6, 7], [False, True, True])])
    too_long = Segment([1] * 7, [True] * 7)
    rows = pack(lambda: next(drawn, too_long), 1, 6, padding=0)
    assert rows.token_ids.tolist() == [[8, 9, 5, 6, 7, 0]]
    assert rows.labels.tolist() == [[IGNORED, 9, IGNORED, 6, 7, IGNORED]]
    assert rows.positions.tolist() == [[0, 1, 0, 1, 2, 0]]
    assert rows.owners.tolist() == [[0, 0, 1, 1, 1, -1]]
    mask = attention_mask(rows.owners)[0, 0]
    assert mask[4].tolist() == [False, False, True, True, True, False]
    assert mask[5].tolist() == [False, False, False, False, False, True]
    assert not torch.any(mask.triu(1))


def test_a_segment_longer_than_a_row_is_cut() -> None:
    rows = pack(lambda: Segment([1, 2, 3, 4], [True] * 4), 2, 3, padding=0)
    assert rows.token_ids.tolist() == [[1, 2, 3], [1, 2, 3]]


def test_a_varied_question_is_still_about_the_same_thing() -> None:
    source = random.Random(0)
    varied = {vary("What is attention?", "english", source).lower() for _ in range(200)}
    assert len(varied) > 5
    kept = sum("attention" in question for question in varied)
    assert kept > len(varied) // 2


def test_words_are_exchanged_within_their_group() -> None:
    source = random.Random(0)
    said = {say_otherwise("怎么安装？", "chinese", source) for _ in range(50)}
    assert said == {"怎么安装？", "如何安装？", "怎样安装？", "该怎么安装？"}
    assert say_otherwise("Hello", "english", source) == "Hello"


def test_only_slack_words_are_left_out() -> None:
    source = random.Random(0)
    said = {leave_out("What is a block?", "english", source) for _ in range(50)}
    assert said == {"What is a block?", "What a block?", "What is block?", "What block?"}


def test_no_held_out_question_is_ever_drawn(tokenizer: Tokenizer) -> None:
    phrasings = all_phrasings(INTENTS)
    held_out = {normalise(phrasing.text) for phrasing in phrasings if phrasing.held_out}
    maker = ConversationMaker(tokenizer, phrasings, [], answers_only=True)
    drawn = set()
    for number in range(300):
        text = tokenizer.decode(maker.make(random.Random(number)).token_ids, False)
        drawn |= {normalise(turn) for turn in re.findall(r"user\n(.*)<\|im_end\|>", text)}
    assert drawn
    assert held_out
    assert drawn.isdisjoint(held_out)


def test_stray_words_are_no_words_of_banyan() -> None:
    passages = [Passage("Debian", "en", "banyan package manager tree " * 3)]
    assert stray_words(passages, INTENTS) == ["manager", "package"]


def test_the_rate_rises_and_then_falls() -> None:
    stage = Stage("questions", 1000, 4, 1e-3, 0.0, answers_only=True)
    rates = [learning_rate(stage, step) for step in (0, 50, 100, 500, 999)]
    assert rates[0] < rates[1] < rates[2]
    assert rates[2] > rates[3] > rates[4] > 0


def test_agreement_is_the_f1_of_words_and_chinese_characters() -> None:
    assert pieces("Run 榕树 Run") == {"run": 2, "榕": 1, "树": 1}
    assert agreement("Run make test.", "run make test") == 1.0
    assert agreement("run make demo", "run make test") == pytest.approx(2 / 3)
    assert agreement("榕树", "make test") == 0.0
