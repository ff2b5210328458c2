import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.fake import FakeTokenizer
from banyan.engine.structure.constraint import TokenConstraint, mask_words
from banyan.engine.structure.definition import Structure
from banyan.engine.structure.guidance import StructureCompiler
from banyan.foundation.errors import RequestError

END = FakeTokenizer.end_token_id
VOCABULARY = FakeTokenizer.vocab_size
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
    "required": ["a"],
    "additionalProperties": False,
}
STRUCTURES = (
    Structure.json_schema(SCHEMA),
    Structure.regex("(ab|c){2,4}"),
    Structure.choice(["red", "green", "grey"]),
    Structure.grammar('start: "(" start ")" | "x"'),
)


@pytest.fixture(scope="module")
def compiler() -> StructureCompiler:
    return StructureCompiler(FakeTokenizer().to_json, vocab_size=VOCABULARY, end_token_ids=(END,))


def allowed(constraint: TokenConstraint) -> list[int]:
    mask_W = np.zeros(mask_words(VOCABULARY), dtype=np.int32)
    constraint.fill(mask_W)
    bits = np.unpackbits(mask_W.view(np.uint8), bitorder="little")[:VOCABULARY]
    return [int(token) for token in np.flatnonzero(bits)]


def write(constraint: TokenConstraint, text: str) -> None:
    for byte in text.encode():
        assert byte in allowed(constraint), (text, chr(byte))
        constraint.accept(byte)


def test_only_what_fits_is_allowed_and_the_end_only_when_it_is_whole(
    compiler: StructureCompiler,
) -> None:
    constraint = compiler.constraint(Structure.regex("ab+"), end_token_ids=(END,))

    assert allowed(constraint) == [ord("a")]
    write(constraint, "ab")
    assert allowed(constraint) == [ord("b"), END]
    assert not constraint.is_finished
    constraint.accept(END)
    assert constraint.is_finished
    assert constraint.failure is None


def test_an_answer_is_finished_when_nothing_may_follow(compiler: StructureCompiler) -> None:
    constraint = compiler.constraint(Structure.choice(["red", "green"]), end_token_ids=(END,))

    write(constraint, "red")

    assert constraint.is_finished


def test_a_forbidden_token_is_a_failure(compiler: StructureCompiler) -> None:
    constraint = compiler.constraint(Structure.choice(["red"]), end_token_ids=(END,))

    constraint.accept(ord("x"))

    assert constraint.is_finished
    assert constraint.failure is not None
    assert "cannot be followed any further" in constraint.failure


def test_tokens_that_end_the_answer_stand_for_the_end_of_the_model(
    compiler: StructureCompiler,
) -> None:
    constraint = compiler.constraint(Structure.regex("a+"), end_token_ids=(ord("!"),))

    write(constraint, "a")
    assert allowed(constraint) == [ord("!"), ord("a")]
    constraint.accept(ord("!"))
    assert constraint.is_finished


def test_an_answer_without_an_end_token_goes_on_until_nothing_may_follow(
    compiler: StructureCompiler,
) -> None:
    constraint = compiler.constraint(Structure.regex("a{1,3}"), end_token_ids=())

    write(constraint, "aa")
    assert allowed(constraint) == [ord("a")]
    write(constraint, "a")
    assert constraint.is_finished


def test_a_structure_may_begin_after_a_section_of_reasoning(compiler: StructureCompiler) -> None:
    structure = Structure(kind="choice", text='["yes"]', after="</think>")
    constraint = compiler.constraint(structure, end_token_ids=(END,))

    write(constraint, "hm, <i></i>")
    assert END not in allowed(constraint)
    write(constraint, "</think>")
    assert allowed(constraint) == [ord("y")]
    constraint.rollback(1)
    assert len(allowed(constraint)) == VOCABULARY - 1
    write(constraint, ">yes")
    assert constraint.is_finished


def test_reasoning_may_be_left_out_when_the_prompt_has_not_opened_it(
    compiler: StructureCompiler,
) -> None:
    structure = Structure(kind="choice", text='["yes"]', after="|", opening="(")
    constraint = compiler.constraint(structure, end_token_ids=(END,))

    assert allowed(constraint) == [ord("("), ord("y")]
    assert constraint.count_valid(list(b"(a|yes")) == 6
    assert constraint.count_valid(list(b"yet")) == 2
    assert constraint.count_valid(list(b"x")) == 0
    write(constraint, "(hm|y")
    constraint.rollback(5)
    write(constraint, "ye")
    constraint.rollback(2)
    write(constraint, "(hm|yes")
    assert constraint.is_finished


def test_guesses_are_counted_across_the_end_of_reasoning(compiler: StructureCompiler) -> None:
    structure = Structure(kind="choice", text='["yes"]', after="|")
    constraint = compiler.constraint(structure, end_token_ids=(END,))

    assert constraint.count_valid([*b"hm|ye", *b"??"]) == 5
    assert constraint.count_valid([*b"hm", END]) == 2
    assert constraint.count_valid(list(b"hm")) == 2


def test_a_structure_is_compiled_once(compiler: StructureCompiler) -> None:
    structure = Structure.regex("once")
    assert not compiler.is_compiled(structure)
    compiler.compile(structure)
    assert compiler.is_compiled(structure)


def test_the_cache_forgets_the_oldest() -> None:
    small = StructureCompiler(
        FakeTokenizer().to_json, vocab_size=VOCABULARY, end_token_ids=(END,), max_cached=2
    )
    for pattern in ("a", "b", "c"):
        small.compile(Structure.regex(pattern))
    assert not small.is_compiled(Structure.regex("a"))
    assert small.is_compiled(Structure.regex("c"))
    assert small.constraint(Structure.regex("a"), end_token_ids=(END,)).failure is None


def test_a_tokenizer_that_cannot_be_read_is_refused() -> None:
    broken = StructureCompiler(lambda: "{}", vocab_size=VOCABULARY, end_token_ids=(END,))
    with pytest.raises(RequestError, match="tokenizer cannot be used for structured answers"):
        broken.compile(Structure.regex("a"))


@settings(max_examples=40, deadline=None)
@given(structure=st.sampled_from(STRUCTURES), seed=st.integers(0, 2**32), jumps=st.data())
def test_any_way_through_the_masks_fits_and_going_back_forgets(
    compiler: StructureCompiler, structure: Structure, seed: int, jumps: st.DataObject
) -> None:
    generator = np.random.default_rng(seed)
    constraint = compiler.constraint(structure, end_token_ids=(END,))
    tokens: list[int] = []
    for _ in range(300):
        choices = [token for token in allowed(constraint) if chr(token) not in " \t\r\n"]
        token = int(generator.choice(choices))
        assert constraint.count_valid([token]) == (token != END)
        constraint.accept(token)
        tokens.append(token)
        if constraint.is_finished:
            break
        if jumps.draw(st.booleans()):
            before = allowed(constraint)
            num_back = jumps.draw(st.integers(0, len(tokens)))
            constraint.rollback(num_back)
            for old in tokens[len(tokens) - num_back :]:
                assert old in allowed(constraint)
                constraint.accept(old)
            assert allowed(constraint) == before
    text = bytes(token for token in tokens if token != END).decode()
    if constraint.is_finished:
        assert constraint.failure is None
        _check(structure, text)


def _check(structure: Structure, text: str) -> None:
    match structure.kind:
        case "json_schema":
            assert isinstance(json.loads(text)["a"], int)
        case "regex":
            assert re.fullmatch(structure.text, text)
        case "choice":
            assert text in json.loads(structure.text)
        case _:
            assert text.strip("()") == "x"
            assert text.count("(") == text.count(")")
