"""The questions about Banyan: complete, unambiguous, and split without leaks."""

from collections import Counter
from pathlib import Path

import pytest

from seedling.intents import (
    LANGUAGES,
    QUESTIONS,
    all_phrasings,
    fill,
    fresh_phrasings,
    is_held_out,
    load_intents,
    normalise,
    parse_intent,
    phrasings_of,
)

INTENTS = load_intents()
PHRASINGS = all_phrasings(INTENTS)


def test_there_are_at_least_250_intents_with_names_of_their_own() -> None:
    counted = Counter(intent.name for intent in INTENTS)
    assert len(counted) >= 250
    assert max(counted.values()) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_intent_has_an_answer_and_four_phrasings_in_each_language(language: str) -> None:
    poor = [
        intent.name
        for intent in INTENTS
        if len(phrasings_of(intent, language)) < 4 or not intent.sides[language].answer
    ]
    assert poor == []


def test_every_intent_can_be_learned_in_each_language() -> None:
    taught = {(p.intent.name, p.language) for p in PHRASINGS if not p.held_out}
    assert taught == {(intent.name, language) for intent in INTENTS for language in LANGUAGES}


def test_no_phrasing_is_both_taught_and_held_out() -> None:
    taught = {normalise(p.text) for p in PHRASINGS if not p.held_out}
    held_out = {normalise(p.text) for p in PHRASINGS if p.held_out}
    assert taught.isdisjoint(held_out)


def test_fresh_questions_are_not_taught() -> None:
    taught = {normalise(p.text) for p in PHRASINGS if not p.held_out}
    fresh = fresh_phrasings(INTENTS)
    assert len(fresh) >= 80
    assert [p.text for p in fresh if normalise(p.text) in taught] == []


def test_about_a_tenth_of_the_phrasings_is_held_out() -> None:
    share = sum(p.held_out for p in PHRASINGS) / len(PHRASINGS)
    assert 0.07 < share < 0.13


def test_no_question_has_two_answers() -> None:
    answers: dict[str, set[str]] = {}
    for phrasing in PHRASINGS:
        answers.setdefault(normalise(phrasing.text), set()).add(phrasing.answer)
    assert {question for question, found in answers.items() if len(found) > 1} == set()


def test_answers_are_short() -> None:
    longest = max(len(side.answer) for intent in INTENTS for side in intent.sides.values())
    assert longest <= 260


def test_chinese_answers_are_chinese_and_english_answers_are_not() -> None:
    def chinese(text: str) -> bool:
        return any("\u4e00" <= character <= "\u9fff" for character in text)

    assert all(chinese(intent.sides["chinese"].answer) for intent in INTENTS)
    assert not any(chinese(intent.sides["english"].answer) for intent in INTENTS)


def test_question_files_are_short_enough_to_read() -> None:
    assert all(len(p.read_text("utf-8").splitlines()) <= 400 for p in QUESTIONS.glob("*.toml"))


def test_a_name_is_put_into_a_template_with_spaces_around_latin_letters() -> None:
    assert fill("介绍一下{}。", "Banyan") == "介绍一下 Banyan。"
    assert fill("{}是什么？", "块") == "块是什么？"
    assert fill("What is {}?", "a block") == "What is a block?"


def test_case_marks_and_spaces_do_not_change_the_side_of_a_phrasing() -> None:
    assert normalise("What is  Banyan?") == normalise("what is banyan")
    assert is_held_out("What is  Banyan?") == is_held_out("what is banyan")


def test_an_intent_of_unknown_kind_is_refused_by_name(tmp_path: Path) -> None:
    text = '[[intent]]\nname = "tree"\nkind = "plant"\nenglish = "a"\nchinese = "b"\n'
    (tmp_path / "bad.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.toml: intent tree has the unknown kind plant"):
        load_intents(tmp_path)


def test_an_intent_with_a_wrong_type_is_refused_by_name() -> None:
    entry = {"name": "tree", "kind": "plain", "ask_english": "x", "english": "a", "chinese": "b"}
    with pytest.raises(ValueError, match="tree has a field of the wrong type"):
        parse_intent(entry, "bad.toml")
