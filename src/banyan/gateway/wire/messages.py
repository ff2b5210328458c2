"""One turn of a conversation, as chat requests send it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from banyan.gateway.errors import refuse
from banyan.gateway.wire.content_parts import ContentPart, check_part
from banyan.gateway.wire.tool_messages import ToolCall, check_tool_calls

ROLES = ("system", "developer", "user", "assistant", "tool")


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn. The fields after `name` are what an SDK sends back with a former answer."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


def message_text(message: ChatMessage) -> str:
    """Return a message's text; several parts are joined by line breaks."""
    if message.content is None:
        return ""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text or "" for part in message.content)


def check_message(message: ChatMessage, place: str) -> None:
    """Refuse a turn that is not served; `place` names it, such as `messages[0]`.

    Raises:
        ApiError: 400, naming the field at fault.
    """
    if message.role not in ROLES:
        raise refuse(
            f"{place}.role is {message.role!r}; it must be one of {', '.join(ROLES)}",
            parameter=f"{place}.role",
        )
    if message.function_call or message.audio:
        raise refuse(
            f"{place} carries a function_call or audio, which this version does not serve",
            parameter=place,
            code="unsupported_parameter",
        )
    _check_tool_parts(message, place)
    if message.content is None and message.role != "assistant":
        raise refuse(f"{place}.content is missing; it is required", parameter=f"{place}.content")
    if isinstance(message.content, list):
        for index, part in enumerate(message.content):
            check_part(part, f"{place}.content[{index}]", role=message.role)


def check_tool_results(messages: Sequence[ChatMessage]) -> None:
    """Refuse results of calls that were never made.

    Raises:
        ApiError: 400, naming the message.
    """
    made: set[str] = set()
    for index, message in enumerate(messages):
        made.update(call.id for call in message.tool_calls or ())
        if message.role == "tool" and message.tool_call_id not in made:
            place = f"messages[{index}].tool_call_id"
            raise refuse(
                f"{place} is {message.tool_call_id!r}; no message before it calls a tool with "
                "that id",
                parameter=place,
            )


def _check_tool_parts(message: ChatMessage, place: str) -> None:
    if message.tool_calls and message.role != "assistant":
        raise refuse(
            f"{place}.tool_calls belongs to the role 'assistant', not {message.role!r}",
            parameter=f"{place}.tool_calls",
        )
    if message.tool_call_id is not None and message.role != "tool":
        raise refuse(
            f"{place}.tool_call_id belongs to the role 'tool', not {message.role!r}",
            parameter=f"{place}.tool_call_id",
        )
    if message.role == "tool" and message.tool_call_id is None:
        raise refuse(
            f"{place}.tool_call_id is missing; a result needs the id of its call",
            parameter=f"{place}.tool_call_id",
            code="missing_field",
        )
    check_tool_calls(message.tool_calls or (), place)
