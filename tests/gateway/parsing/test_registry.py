"""Every style of tool calls, read whole, cut anywhere, and full of rubbish."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.gateway.parsing.pieces import (
    CallArguments,
    CallStart,
    Content,
    Piece,
    Reasoning,
    joined,
)
from banyan.gateway.parsing.registry import (
    REASONING_PARSERS,
    TOOL_PARSERS,
    AnswerParser,
    choose_reasoning_parser,
    choose_tool_parser,
)
from banyan.gateway.parsing.tools import KnownTools

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "units": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "deep": {"type": "object"},
    },
}
TOOLS = KnownTools({"get_weather": WEATHER, "ping": {}})
ARGUMENTS = '{"city": "Ulm {\\"x\\"} </tool_call>", "deep": {"a": [1, {}]}}'
LONG = "x" * 300

# What each style writes for a call of get_weather with ARGUMENTS and one of ping without any.
CALL = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'
PING = '{"name": "ping", "arguments": {}}'
WRITTEN = {
    "hermes": f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{PING}\n</tool_call>",
    "llama3_json": f"{CALL}; {PING}".replace("arguments", "parameters"),
    "mistral": f"[TOOL_CALLS] [{CALL}, {PING}]",
    "deepseek_v3": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
        f"```json\n{ARGUMENTS}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>ping"
        "\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "deepseek_v31": (
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{ARGUMENTS}"
        "<｜tool▁call▁end｜><｜tool▁call▁begin｜>ping<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
        "<｜tool▁calls▁end｜>"
    ),
}
NEW_MISTRAL = (
    f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}[TOOL_CALLS]ping[CALL_ID]abc123xyz[ARGS]{{}}"
)
CODER = """<tool_call>
<function=get_weather>
<parameter=city>
Ulm {"x"}
 & more
</parameter>
<parameter=days>
3
</parameter>
<parameter=units>
None
</parameter>
<parameter=deep>
{"a": [1]}
</parameter>
</function>
</tool_call>
<tool_call>
<function=ping>
</function>
</tool_call>"""


def parser(style: str, marks: str | None = None, *, is_inside: bool = False) -> AnswerParser:
    found = None if marks is None else REASONING_PARSERS[marks]
    return AnswerParser(TOOL_PARSERS[style], TOOLS, found, is_inside=is_inside)


def read(text: str, one: AnswerParser, cuts: tuple[int, ...] = ()) -> list[Piece]:
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces: list[Piece] = []
    for begin, end in pairwise(borders):
        pieces += one.feed(text[begin:end])
    return joined(pieces + one.finish())


def calls(pieces: list[Piece]) -> list[tuple[str, Any]]:
    """Names and arguments of the calls, which must be numbered in order."""
    found: list[tuple[str, str]] = []
    for piece in pieces:
        match piece:
            case CallStart(index, name):
                assert index == len(found)
                found.append((name, ""))
            case CallArguments(index, text):
                name, before = found[index]
                found[index] = (name, before + text)
    return [(name, json.loads(text)) for name, text in found]


def content(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, Content))


@pytest.mark.parametrize("style", WRITTEN)
@pytest.mark.parametrize("before", ["", "Let me look.\n\n"])
def test_each_style_gives_the_calls_and_the_text_before_them(style: str, before: str) -> None:
    if style == "llama3_json":
        before = ""  # there a call is the whole answer
    pieces = read(before + WRITTEN[style], parser(style))
    assert calls(pieces) == [("get_weather", json.loads(ARGUMENTS)), ("ping", {})]
    assert content(pieces) == before.strip()


def test_newer_mistral_models_write_name_and_arguments() -> None:
    pieces = read(NEW_MISTRAL, parser("mistral"))
    assert calls(pieces) == [("get_weather", json.loads(ARGUMENTS)), ("ping", {})]
    assert content(pieces) == ""


def test_qwen3_coder_reads_values_by_the_type_in_the_schema() -> None:
    pieces = read(CODER, parser("qwen3_coder"))
    expected = {"city": 'Ulm {"x"}\n & more', "days": 3, "units": None, "deep": {"a": [1]}}
    assert calls(pieces) == [("get_weather", expected), ("ping", {})]
    assert content(pieces) == ""


def test_a_llama_call_may_follow_a_python_tag_and_its_name_must_be_known() -> None:
    call = '{"type": "function", "name": "ping", "parameters": {}}'
    assert calls(read("<|python_tag|>" + call, parser("llama3_json"))) == [("ping", {})]
    answer = '{"name": "Bob", "parameters": {"age": 3}}'
    assert read(answer, parser("llama3_json")) == [Content(answer)]


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ('{"arguments": {"a": 1}, "name": "ping"}', {"a": 1}),
        ('{"id": 7, "name": "ping", "arguments": {"a": 1}}', {"a": 1}),
        ('{"name": "ping", "arguments": "{\\"a\\": 1}"}', {"a": 1}),
        ('{"name": "ping", "arguments": null}', {}),
        ('{"name": "ping"}', {}),
        ('{"name": "ping", "arguments": {"a": 1}, "id": "x"}', {"a": 1}),
        ('{"name": "ping", "arguments": {"a": "line\nbreak"}', None),
    ],
)
def test_calls_in_other_orders_are_understood(call: str, arguments: object) -> None:
    pieces = read(f"<tool_call>{call}</tool_call>", parser("hermes"))
    names = [piece.name for piece in pieces if isinstance(piece, CallStart)]
    assert names == ["ping"]
    if arguments is not None:
        assert calls(pieces) == [("ping", arguments)]
    assert content(pieces) == ""


def test_arguments_are_told_while_they_come() -> None:
    one = parser("hermes")
    assert one.feed('<tool_call>{"name": "ping", "argu') == []
    assert one.feed('ments": {"a": "b') == [CallStart(0, "ping"), CallArguments(0, '{"a": "b')]
    assert one.feed('c"') == [CallArguments(0, 'c"')]
    assert one.feed("}}</tool_") == [CallArguments(0, "}")]
    assert one.feed("call>") == []
    assert one.finish() == []


def test_texts_of_qwen3_coder_are_told_while_they_come() -> None:
    one = parser("qwen3_coder")
    one.feed("<function=get_weather><parameter=city>\nUl")
    assert one.feed("m\n") == [CallArguments(0, "m")]
    assert one.feed('"quoted"\n') == [CallArguments(0, '\\n\\"quoted\\"')]
    assert one.feed("</parameter></function>") == [CallArguments(0, '"}')]


def test_an_answer_that_is_cut_keeps_what_came() -> None:
    pieces = read('<tool_call>{"name": "ping", "arguments": {"a": [1, 2', parser("hermes"))
    assert pieces == [CallStart(0, "ping"), CallArguments(0, '{"a": [1, 2')]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>no json</tool_call> end",
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "", "arguments": {}}',
        '<tool_call>{"nam',
        "a < b <tool_cal",
        "<tool_call>",
        "{ }",
        "[TOOL_CALLS]",
        "[TOOL_CALLS][1, 2]",
        f"[TOOL_CALLS]{LONG}[ARGS]" + "{",
        "[TOOL_CALLS]\n{",
        "<function=",
        "<tool_call>\n<function>",
        f"<function={LONG}>",
        "<｜tool▁calls▁begin｜>hm",
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        "<｜tool▁call▁begin｜>a",
        " \n text \n ",
    ],
)
@pytest.mark.parametrize("style", [*WRITTEN, "qwen3_coder"])
def test_what_only_looks_like_a_call_stays_content(style: str, text: str) -> None:
    assert read(text, parser(style)) == [Content(text)]


def test_good_calls_after_a_broken_one_are_found() -> None:
    text = f"<tool_call>oops</tool_call><tool_call>{PING}</tool_call> Done."
    pieces = read(text, parser("hermes"))
    assert calls(pieces) == [("ping", {})]
    assert content(pieces) == "<tool_call>oops</tool_call>Done."


@pytest.mark.parametrize(
    ("text", "is_inside", "pieces"),
    [
        (
            "<think>\nHm.\n\nSo.\n</think>\n\nYes.",
            False,
            [Reasoning("Hm.\n\nSo."), Content("Yes.")],
        ),
        ("Hm.\n</think>\n\nYes.", True, [Reasoning("Hm."), Content("Yes.")]),
        ("Yes.\n<think>", False, [Content("Yes.\n<think>")]),
        ("\n<think>Hm", False, [Reasoning("Hm")]),
        ("<think></think>\nYes", False, [Content("Yes")]),
        ("</think>Yes", True, [Content("Yes")]),
        ("No </think> mark", False, [Content("No </think> mark")]),
    ],
)
def test_reasoning_is_told_apart(text: str, is_inside: bool, pieces: list[Piece]) -> None:
    one = AnswerParser(None, TOOLS, REASONING_PARSERS["qwen3"], is_inside=is_inside)
    assert read(text, one) == pieces


def test_calls_are_found_behind_reasoning_and_not_in_it() -> None:
    text = f"<think>{WRITTEN['hermes']}</think>\n{WRITTEN['hermes']}"
    pieces = read(text, parser("hermes", "qwen3"))
    assert len(calls(pieces)) == 2
    assert pieces[0] == Reasoning(WRITTEN["hermes"])


FRAGMENTS = [
    *WRITTEN.values(),
    NEW_MISTRAL,
    CODER,
    CALL,
    PING,
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<function=ping>",
    "</function>",
    "<parameter=days>",
    "</parameter>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|python_tag|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    '{"name": "ping", "arguments": ',
    "{",
    "}",
    '"',
    "\n",
    " ",
    ";",
    ",",
    "text",
]
RUBBISH = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=8).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    text=RUBBISH,
    cuts=st.lists(st.integers(0, 900), max_size=12).map(tuple),
    style=st.sampled_from([*WRITTEN, "qwen3_coder"]),
    marks=st.sampled_from([None, "qwen3"]),
    is_inside=st.booleans(),
)
@example("\n<tool_call>", (1, 4), "hermes", None, False)
def test_it_never_matters_where_the_text_is_cut(
    text: str, cuts: tuple[int, ...], style: str, marks: str | None, is_inside: bool
) -> None:
    whole = read(text, parser(style, marks, is_inside=is_inside))
    assert read(text, parser(style, marks, is_inside=is_inside), cuts) == whole
    each = tuple(range(len(text)))
    assert read(text, parser(style, marks, is_inside=is_inside), each) == whole


LETTERS = st.text('abc{}[]<>"\\:,;/|_ \n', max_size=30)


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(LETTERS | st.sampled_from(["<tool_call>", "[TOOL_CALLS]", "{", "<function="])),
    style=st.sampled_from([*WRITTEN, "qwen3_coder"]),
)
@example(["[TOOL_CALLS]", " ", "[TOOL_CALLS]"], "mistral")
def test_nothing_of_a_text_without_calls_is_lost(texts: list[str], style: str) -> None:
    text = "".join(texts)
    pieces = read(text, parser(style))
    if not any(isinstance(piece, CallStart) for piece in pieces):
        assert content(pieces) == text


@pytest.mark.parametrize(
    ("template", "tools", "reasoning"),
    [
        ("{% if tools %}<tool_call>{% endif %}</think>", "hermes", "qwen3"),
        ("{% if tools %}<tool_call><function=a>{% endif %}", "qwen3_coder", None),
        ("{% if tools %}[TOOL_CALLS]{% endif %}[THINK]", "mistral", "mistral"),
        ("{% if tools %}<｜tool▁calls▁begin｜>{% endif %}", "deepseek_v3", None),
        ('{% if tools %}{"name": a, "parameters": b}{% endif %}', "llama3_json", None),
        ("{{ messages }} <tool_call>", None, None),
    ],
)
def test_the_template_chooses_the_parsers(
    template: str, tools: str | None, reasoning: str | None
) -> None:
    assert choose_tool_parser("auto", template) == tools
    assert choose_reasoning_parser("auto", template) == reasoning


def test_a_person_may_choose_them_and_is_told_of_misspelt_ones() -> None:
    assert choose_tool_parser("mistral", "") == "mistral"
    assert choose_tool_parser("none", "{% if tools %}<tool_call>") is None
    with pytest.raises(InputError, match="--tool-call-parser 'hermus' is not known; use one of"):
        choose_tool_parser("hermus", "")
    with pytest.raises(InputError, match="--reasoning-parser"):
        choose_reasoning_parser("x", "")
