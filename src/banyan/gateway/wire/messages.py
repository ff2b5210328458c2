"""One turn of a conversation, as chat requests send it."""

from typing import Any

import msgspec

from banyan.gateway.errors import refuse
from banyan.gateway.wire.content_parts import ContentPart, check_part

ROLES = ("system", "developer", "user", "assistant")


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn. The fields after `name` are what an SDK sends back with a former answer."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None
    tool_calls: Any = None
    tool_call_id: Any = None


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
    if message.tool_calls or message.function_call or message.tool_call_id or message.audio:
        raise refuse(
            f"{place} carries a tool call or audio, which this version does not serve",
            parameter=place,
            code="unsupported_parameter",
        )
    if message.content is None and message.role != "assistant":
        raise refuse(f"{place}.content is missing; it is required", parameter=f"{place}.content")
    if isinstance(message.content, list):
        for index, part in enumerate(message.content):
            check_part(part, f"{place}.content[{index}]")
