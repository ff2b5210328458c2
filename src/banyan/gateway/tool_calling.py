"""From the tools of a chat request to what the engine must keep to and how its text is read.

Owns what `tool_choice` and the reasoning of a model mean for one request. The parsers are in
`parsing`, the grammars in `tool_grammar`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from banyan.engine.sampling import SamplingOptions
from banyan.engine.structure.definition import Structure
from banyan.gateway.backend import TextModel
from banyan.gateway.errors import refuse
from banyan.gateway.parsing.reasoning import ReasoningMarks
from banyan.gateway.parsing.registry import (
    MARKS,
    REASONING_PARSERS,
    TOOL_PARSERS,
    AnswerParser,
)
from banyan.gateway.parsing.tools import KnownTools
from banyan.gateway.services import GatewaySettings
from banyan.gateway.structure import require_valid
from banyan.gateway.tool_grammar import calls_grammar
from banyan.gateway.wire.tools import (
    AllowedToolsChoice,
    NamedToolChoice,
    Tool,
    ToolFields,
)

# The prompt's last tokens, enough to see whether it ends within a section of reasoning.
_TAIL_TOKENS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReading:
    """How the answers of one request are read.

    Attributes:
        style: name of the parser of tool calls, None when there are none to find.
        tools: those the model was told of.
        marks: around the model's reasoning, None when it writes none.
        is_inside: the prompt ends within the reasoning.
        only_first_call: the caller wants one call at most.
        shows_reasoning: reasoning is part of the reply.
    """

    style: str | None = None
    tools: KnownTools = field(default_factory=KnownTools)
    marks: ReasoningMarks | None = None
    is_inside: bool = False
    only_first_call: bool = False
    shows_reasoning: bool = True

    @property
    def is_plain(self) -> bool:
        """True when the text is the content."""
        return self.style is None and self.marks is None

    def parser(self) -> AnswerParser:
        """Begin to read one answer."""
        style = None if self.style is None else TOOL_PARSERS[self.style]
        return AnswerParser(style, self.tools, self.marks, is_inside=self.is_inside)


def tools_of(asked: ToolFields) -> list[Tool]:
    """Return the tools the model is told of: none when it may not call them."""
    tools = list(asked.tools or ())
    if isinstance(asked.tool_choice, AllowedToolsChoice):
        allowed = asked.tool_choice.names()
        return [tool for tool in tools if tool.function.name in allowed]
    return [] if asked.tool_choice == "none" else tools


def _must_call(asked: ToolFields) -> bool:
    choice = asked.tool_choice
    if isinstance(choice, AllowedToolsChoice):
        return choice.allowed_tools.mode == "required"
    return choice == "required" or isinstance(choice, NamedToolChoice)


def template_tools(tools: Sequence[Tool]) -> list[dict[str, Any]] | None:
    """Return the tools as chat templates expect them."""
    told = [
        {
            "type": "function",
            "function": {
                "name": tool.function.name,
                "description": tool.function.description or "",
                "parameters": _parameters(tool),
            },
        }
        for tool in tools
    ]
    return told or None


def template_variables(asked: ToolFields, given: Mapping[str, Any]) -> dict[str, Any]:
    """Add what a request says about reasoning to the names a template may read."""
    variables = dict(given)
    if asked.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", asked.reasoning_effort)
    if asked.reasoning_effort == "none":
        variables.setdefault("enable_thinking", False)
    return variables


def answer_reading(
    asked: ToolFields, prompt: list[int], *, settings: GatewaySettings, text: TextModel
) -> AnswerReading:
    """Say how the answers to a prompt are read.

    Raises:
        ApiError: 400, tools are asked for and it is not known how the model calls them.
    """
    tools = tools_of(asked)
    if tools and settings.tool_call_parser is None:
        raise refuse(
            f"the chat template of {settings.model_name!r} knows no tools; leave tools out, or "
            "start the server with --tool-call-parser",
            parameter="tools",
            code="unsupported_parameter",
        )
    marks = None
    if settings.reasoning_parser is not None:
        marks = REASONING_PARSERS[settings.reasoning_parser]
    tail = "" if marks is None else text.decode(prompt[-_TAIL_TOKENS:]).rstrip()
    return AnswerReading(
        style=settings.tool_call_parser if tools else None,
        tools=KnownTools({tool.function.name: _parameters(tool) for tool in tools}),
        # A prompt that closes the section itself leaves nothing to look for.
        marks=None if marks is not None and tail.endswith(marks.end) else marks,
        is_inside=marks is not None and tail.endswith(marks.begin),
        only_first_call=asked.parallel_tool_calls is False,
        shows_reasoning=asked.include_reasoning is not False,
    )


async def shaped_options(
    asked: ToolFields, options: SamplingOptions, reading: AnswerReading, text: TextModel
) -> SamplingOptions:
    """Make the engine keep to the tool choice, and to any structure behind the reasoning.

    Raises:
        ApiError: 400, the schema of a tool that must be called cannot be kept; says where.
    """
    structure = await _call_structure(asked, options.structure, reading, text)
    if structure is not None and reading.marks is not None:
        opening = "" if reading.is_inside else reading.marks.begin
        structure = replace(structure, after=reading.marks.end, opening=opening)
    is_seen = all(not _is_special(mark, text) for mark in _marks(reading))
    return replace(
        options,
        structure=structure,
        skip_special_tokens=options.skip_special_tokens and is_seen,
    )


async def _call_structure(
    asked: ToolFields, answer: Structure | None, reading: AnswerReading, text: TextModel
) -> Structure | None:
    """The structure of an answer that must call tools, or may instead of keeping to `answer`."""
    is_forced = _must_call(asked)
    if reading.style is None or not (is_forced or answer is not None):
        return answer
    tools = tools_of(asked)
    if isinstance(asked.tool_choice, NamedToolChoice):
        chosen = asked.tool_choice.function.name
        tools = [tool for tool in tools if tool.function.name == chosen]
    for index, tool in enumerate(asked.tools or ()):
        if tool in tools:
            await require_valid(
                Structure.json_schema(_parameters(tool)),
                field=f"tools[{index}].function.parameters",
            )
    grammar = calls_grammar(
        reading.style,
        {tool.function.name: _parameters(tool) for tool in tools},
        mark=lambda mark: _spelled(mark, text),
        several=asked.parallel_tool_calls is not False
        and not isinstance(asked.tool_choice, NamedToolChoice),
        has_new_mistral_marks=text.token_id("[ARGS]") is not None,
        answer=None if is_forced else _answer_schema(answer),
    )
    structure = Structure.grammar(grammar)
    await require_valid(structure, field="tools")
    return structure


def _answer_schema(answer: Structure | None) -> Mapping[str, Any] | bool | None:
    """The schema of an answer that may come instead of calls."""
    if answer is None:
        return None
    if answer.kind == "json_object":
        return {"type": "object"}
    if answer.kind == "json_schema":
        schema: Mapping[str, Any] | bool = json.loads(answer.text)
        return schema
    raise refuse(
        f"an answer that keeps to a {answer.kind} cannot call tools; set tool_choice to 'none' "
        "or ask for JSON",
        parameter="tools",
    )


def _parameters(tool: Tool) -> dict[str, Any]:
    return tool.function.parameters or {"type": "object", "properties": {}}


def _marks(reading: AnswerReading) -> tuple[str, ...]:
    of_reasoning = () if reading.marks is None else (reading.marks.begin, reading.marks.end)
    return (*MARKS.get(reading.style or "", ()), *of_reasoning)


def _spelled(mark: str, text: TextModel) -> str:
    """Write a mark for a grammar: a special token by its number, anything else as text."""
    if _is_special(mark, text):
        return f"<[{text.token_id(mark)}]>"
    return json.dumps(mark, ensure_ascii=False)


def _is_special(mark: str, text: TextModel) -> bool:
    token_id = text.token_id(mark)
    return token_id is not None and not text.decode([token_id], skip_special_tokens=True)
