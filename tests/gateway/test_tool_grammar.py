"""What each grammar lets through, its own parser understands."""

import json
from typing import Any

import numpy as np
import pytest

from banyan.engine.fake import FakeTokenizer
from banyan.engine.structure.constraint import mask_words
from banyan.engine.structure.definition import Structure
from banyan.engine.structure.grammar_text import check_structure
from banyan.engine.structure.guidance import StructureCompiler
from banyan.foundation.errors import RequestError
from banyan.gateway.parsing.pieces import CallArguments, CallStart, Content
from banyan.gateway.parsing.registry import TOOL_PARSERS, AnswerParser
from banyan.gateway.parsing.tools import KnownTools
from banyan.gateway.tool_grammar import calls_grammar

TOOLS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "days": {"$ref": "#/$defs/days"},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
        "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
    },
    "ping": {"type": "object", "properties": {}, "additionalProperties": False},
}


# By chance alone no text would ever end.
CLOSING = list(b"\n</parameter>\n")


def written(structure: Structure, seed: int) -> str:
    """Write something that the structure allows, by chance, in letters that can be read."""
    tokenizer = FakeTokenizer()
    compiler = StructureCompiler(
        tokenizer.to_json, vocab_size=tokenizer.vocab_size, end_token_ids=(256,)
    )
    constraint = compiler.constraint(structure, end_token_ids=(256,))
    generator = np.random.default_rng(seed)
    mask_W = np.zeros(mask_words(tokenizer.vocab_size), dtype=np.int32)
    tokens: list[int] = []
    while not constraint.is_finished and len(tokens) < 4000:
        if constraint.count_valid(CLOSING) == len(CLOSING) and generator.random() < 0.1:
            for token in CLOSING:
                constraint.accept(token)
            tokens += CLOSING
            continue
        constraint.fill(mask_W)
        allowed = np.flatnonzero(np.unpackbits(mask_W.view(np.uint8), bitorder="little"))
        weights = np.where(allowed > 126, 0.001, 1.0)
        weights[allowed == 256] = 30.0
        token = int(generator.choice(allowed, p=weights / weights.sum()))
        constraint.accept(token)
        tokens.append(token)
    assert constraint.failure is None
    assert constraint.is_finished, bytes(token for token in tokens if token < 256)
    return bytes(token for token in tokens if token < 256).decode()


def read(style: str, text: str) -> tuple[list[tuple[str, Any]], str]:
    parser = AnswerParser(TOOL_PARSERS[style], KnownTools(TOOLS), None)
    names: list[str] = []
    arguments: list[str] = []
    content = ""
    for piece in [*parser.feed(text), *parser.finish()]:
        match piece:
            case CallStart(_, name):
                names.append(name)
                arguments.append("")
            case CallArguments(index, more):
                arguments[index] += more
            case Content(more):
                content += more
    return [(name, json.loads(text)) for name, text in zip(names, arguments, strict=True)], content


@pytest.mark.parametrize(
    ("style", "new_mistral"), [*((style, False) for style in TOOL_PARSERS), ("mistral", True)]
)
def test_calls_that_must_be_made_are_made_in_the_style_of_the_model(
    style: str, new_mistral: bool
) -> None:
    grammar = calls_grammar(
        style, TOOLS, mark=json.dumps, several=True, has_new_mistral_marks=new_mistral
    )
    for seed in range(4):
        text = written(Structure.grammar(grammar), seed)
        calls, content = read(style, text)
        assert content == "", text
        assert calls, text
        for name, arguments in calls:
            if name == "ping":
                assert arguments == {}
            else:
                assert name == "get_weather"
                assert {"city", "days"} <= set(arguments) <= {"city", "days", "unit"}
                assert isinstance(arguments["city"], str)
                assert 1 <= arguments["days"] <= 9


def test_one_call_is_all_there_is_when_only_one_is_wanted() -> None:
    one_tool = {"ping": TOOLS["ping"]}
    grammar = calls_grammar("hermes", one_tool, mark=json.dumps, several=False)
    text = written(Structure.grammar(grammar), 0)
    assert text.startswith('<tool_call>\n{"name": "ping", "arguments": {')
    assert text.endswith("}}\n</tool_call>")
    assert text.count("<tool_call>") == 1


def test_an_answer_may_come_instead_of_calls() -> None:
    grammar = calls_grammar(
        "hermes", TOOLS, mark=json.dumps, several=True, answer={"const": {"done": True}}
    )
    texts = {written(Structure.grammar(grammar), seed)[0] for seed in range(12)}
    assert texts == {"{", "<"}


def test_marks_that_are_tokens_are_written_by_number() -> None:
    grammar = calls_grammar(
        "mistral",
        TOOLS,
        mark={"[TOOL_CALLS]": "<[256]>", "[ARGS]": "<[250]>"}.__getitem__,
        several=True,
        has_new_mistral_marks=True,
    )
    assert 'call_0: <[256]> "get_weather" <[250]> body_0' in grammar


def test_texts_of_a_shape_are_refused_where_they_are_written_without_quotes() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}}
    with pytest.raises(RequestError, match="'a' has a 'maxLength'"):
        calls_grammar("qwen3_coder", {"f": schema}, mark=json.dumps, several=True)


def test_words_of_a_schema_cannot_break_out_of_the_grammar() -> None:
    hostile = {
        "type": "object",
        "description": '::= "\n start: "x"',
        "properties": {'a"\n': {"type": "string", "enum": ['b"\n', "</parameter>"]}},
        "required": ['a"\n'],
    }
    for style in ("hermes", "qwen3_coder"):
        check_structure(
            Structure.grammar(calls_grammar(style, {"f": hostile}, mark=json.dumps, several=True))
        )
