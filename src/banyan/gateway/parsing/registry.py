"""The parsers by name, and which of them a chat template asks for."""

from collections.abc import Callable, Mapping

from banyan.foundation.errors import InputError
from banyan.gateway.parsing.pieces import Content, Piece, joined
from banyan.gateway.parsing.qwen3_coder import qwen3_coder
from banyan.gateway.parsing.reading import Parser, Reader, Steps
from banyan.gateway.parsing.reasoning import (
    MISTRAL_THINK,
    THINK,
    ReasoningMarks,
    split_reasoning,
)
from banyan.gateway.parsing.styles import (
    DEEPSEEK_CALL,
    DEEPSEEK_CALLS,
    DEEPSEEK_SEPARATOR,
    PYTHON_TAG,
    TOOL_CALLS,
    deepseek,
    hermes,
    llama3_json,
    mistral,
)
from banyan.gateway.parsing.tools import KnownTools

Style = Callable[[Reader, KnownTools], Steps[None]]

# vLLM's names, each for the models it is for there.
TOOL_PARSERS: Mapping[str, Style] = {
    "hermes": hermes,
    "qwen3_coder": qwen3_coder,
    "qwen3_xml": qwen3_coder,
    "llama3_json": llama3_json,
    "llama4_json": llama3_json,
    "mistral": mistral,
    "deepseek_v3": deepseek,
    "deepseek_v31": deepseek,
}
REASONING_PARSERS: Mapping[str, ReasoningMarks] = {
    "qwen3": THINK,
    "deepseek_r1": THINK,
    "deepseek_v3": THINK,
    "mistral": MISTRAL_THINK,
}
AUTO, NONE = "auto", "none"

_DEEPSEEK_MARKS = (DEEPSEEK_CALLS, DEEPSEEK_CALL, DEEPSEEK_SEPARATOR)
# What must not be left out of the text, be it special tokens or not.
MARKS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("hermes", "qwen3_coder", "qwen3_xml"), ("<tool_call>", "</tool_call>")),
    **dict.fromkeys(("llama3_json", "llama4_json"), (PYTHON_TAG,)),
    "mistral": (TOOL_CALLS, "[ARGS]", "[CALL_ID]"),
    **dict.fromkeys(("deepseek_v3", "deepseek_v31"), _DEEPSEEK_MARKS),
}

# The first mark that a template holds decides.
_TOOLS_BY_MARK = (
    ("<function=", "qwen3_coder"),
    ("<tool_call>", "hermes"),
    (DEEPSEEK_CALLS, "deepseek_v3"),
    (TOOL_CALLS, "mistral"),
    (PYTHON_TAG, "llama3_json"),
    ('"parameters": ', "llama3_json"),
)
_REASONING_BY_MARK = (("</think>", "qwen3"), ("[THINK]", "mistral"))


def choose_tool_parser(asked: str, template: str) -> str | None:
    """Return the name of the parser for a template's tool calls, None when it knows no tools.

    Raises:
        InputError: no parser has the name that was asked for.
    """
    by_mark = _TOOLS_BY_MARK if "tools" in template else ()
    return _choose("tool-call-parser", asked, template, TOOL_PARSERS, by_mark)


def choose_reasoning_parser(asked: str, template: str) -> str | None:
    """Return the name of the parser for a template's reasoning, None when it knows none.

    Raises:
        InputError: no parser has the name that was asked for.
    """
    return _choose("reasoning-parser", asked, template, REASONING_PARSERS, _REASONING_BY_MARK)


class AnswerParser:
    """Takes the text of one answer apart: reasoning first, then content and calls.

    Args:
        style: how the model writes calls; None leaves them in the content.
        tools: those the model was told of.
        marks: around its reasoning; None leaves it in the content.
        is_inside: the prompt has opened the section of reasoning already.
    """

    def __init__(
        self,
        style: Style | None,
        tools: KnownTools,
        marks: ReasoningMarks | None,
        *,
        is_inside: bool = False,
    ) -> None:
        self._calls = None if style is None else Parser(lambda reader: style(reader, tools))
        self._reasoning = (
            None
            if marks is None
            else Parser(lambda reader: split_reasoning(reader, marks, is_inside=is_inside))
        )

    def feed(self, text: str) -> list[Piece]:
        """Take more text and return the pieces that are certain now."""
        pieces: list[Piece] = [Content(text)]
        if self._reasoning is not None:
            pieces = self._reasoning.feed(text)
        return joined(found for piece in pieces for found in self._within(piece))

    def finish(self) -> list[Piece]:
        """Say that no more comes and return the last pieces."""
        pieces = [] if self._reasoning is None else self._reasoning.finish()
        found = [within for piece in pieces for within in self._within(piece)]
        return joined(found + ([] if self._calls is None else self._calls.finish()))

    def _within(self, piece: Piece) -> list[Piece]:
        if self._calls is None or not isinstance(piece, Content):
            return [piece]
        return self._calls.feed(piece.text)


def _choose(
    option: str,
    asked: str,
    template: str,
    known: Mapping[str, object],
    by_mark: tuple[tuple[str, str], ...],
) -> str | None:
    if asked == NONE:
        return None
    if asked == AUTO:
        return next((name for mark, name in by_mark if mark in template), None)
    if asked not in known:
        raise InputError(
            f"--{option} {asked!r} is not known; use one of {', '.join((AUTO, NONE, *known))}"
        )
    return asked
