"""What `LLM.chat` may be told of a conversation besides its messages, and how it becomes a prompt.

The names are those of vLLM's `LLM.chat`. Pure.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from banyan.foundation.errors import RequestError
from banyan.models.chat_rendering import ChatRendering

Message = Mapping[str, Any]


class ChatChoices(TypedDict, total=False):
    """How the model's chat template is used.

    Attributes:
        tools: functions the model may call, each {"type": "function", "function": {...}}; its
            calls are part of the answer's text, in the way of its family.
        chat_template: source of a template to use instead of the model's own.
        chat_template_kwargs: further names a template may read, such as `enable_thinking`.
        add_generation_prompt: end with the opening of the model's own turn; true by default.
        continue_final_message: leave the last message open, so that the model goes on with it.
        documents: texts for templates that know retrieval.
    """

    tools: Sequence[Mapping[str, Any]] | None
    chat_template: str | None
    chat_template_kwargs: Mapping[str, Any] | None
    add_generation_prompt: bool
    continue_final_message: bool
    documents: Sequence[Mapping[str, Any]] | None


def chat_rendering(choices: ChatChoices) -> ChatRendering:
    """Read the choices.

    Raises:
        TypeError: one has no such name, as Python says of arguments.
        RequestError: a tool is no function, or choices exclude each other.
    """
    unknown = sorted(set(choices) - ChatChoices.__annotations__.keys())
    if unknown:
        raise TypeError(f"LLM.chat() got an unexpected keyword argument {unknown[0]!r}")
    return ChatRendering(
        add_generation_prompt=choices.get("add_generation_prompt", True),
        continue_final_message=choices.get("continue_final_message", False),
        tools=_checked_tools(choices.get("tools") or ()),
        documents=choices.get("documents"),
        variables=choices.get("chat_template_kwargs") or {},
        template=choices.get("chat_template"),
    )


def template_messages(messages: Sequence[Message]) -> list[Message]:
    """Give templates the arguments of former calls as values; OpenAI's messages hold them as text.

    Raises:
        RequestError: a message is no mapping, a call is none, or its text is no JSON object.
    """
    return [_with_values(message, f"messages[{n}]") for n, message in enumerate(messages)]


def _with_values(message: Message, place: str) -> Message:
    if not isinstance(message, Mapping):
        raise RequestError(
            f"{place} is a {type(message).__name__}; give a list of messages, each "
            '{"role": ..., "content": ...}',
            parameter="messages",
        )
    calls = message.get("tool_calls")
    if not calls:
        return message
    if not isinstance(calls, Sequence):
        raise RequestError(f"{place}.tool_calls is a {type(calls).__name__}; give a list")
    return {**message, "tool_calls": [_call(call, f"{place}.tool_calls") for call in calls]}


def _call(call: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    function = (call.get("function") or {}) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise RequestError(
            f'{place} holds no call; give {{"function": {{"name": ..., "arguments": ...}}}}'
        )
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return call
    try:
        values = json.loads(arguments or "{}")
    except ValueError as error:
        raise RequestError(f"the arguments in {place} are no JSON ({error})") from error
    if not isinstance(values, dict):
        raise RequestError(f"the arguments in {place} are JSON but no object; give an object")
    return {**call, "function": {**function, "arguments": values}}


def _checked_tools(tools: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    for number, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not function.get("name"):
            raise RequestError(
                f"tools[{number}] is no function; give "
                '{"type": "function", "function": {"name": ..., "parameters": ...}}',
                parameter="tools",
            )
    return list(tools) or None
