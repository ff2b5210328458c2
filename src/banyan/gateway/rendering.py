"""From the fields of a request to the way its conversation becomes a prompt."""

from collections.abc import Sequence
from typing import Any

from banyan.gateway.errors import refuse
from banyan.gateway.services import GatewaySettings
from banyan.gateway.tool_calling import template_tools, template_variables, tools_of
from banyan.gateway.wire.messages import ChatMessage, message_text
from banyan.gateway.wire.rendering import RenderingFields
from banyan.gateway.wire.tokenize import TokenizeRequest
from banyan.gateway.wire.tool_messages import read_arguments
from banyan.models.chat_rendering import ChatRendering

# A template is code; it is compiled anew for each request that brings one.
_MOST_TEMPLATE_CHARACTERS = 100_000


def rendering_of(
    asked: RenderingFields | TokenizeRequest, settings: GatewaySettings
) -> ChatRendering:
    """Read how the chat template is to be used.

    Raises:
        ApiError: 400, a template of the caller's own where the operator allows none.
        RequestError: choices that exclude each other.
    """
    template = asked.chat_template
    if template is not None and not settings.trust_request_chat_template:
        raise refuse(
            "chat_template in a request is not allowed by this server; leave it out, or start "
            "the server with --trust-request-chat-template",
            parameter="chat_template",
            code="unsupported_parameter",
        )
    if template is not None and len(template) > _MOST_TEMPLATE_CHARACTERS:
        raise refuse(
            f"chat_template has {len(template)} characters; at most "
            f"{_MOST_TEMPLATE_CHARACTERS} are allowed",
            parameter="chat_template",
        )
    tools, variables = asked.tools or [], asked.chat_template_kwargs or {}
    if isinstance(asked, RenderingFields):
        tools, variables = tools_of(asked), template_variables(asked, variables)
    opens_turn = asked.add_generation_prompt
    return ChatRendering(
        add_generation_prompt=True if opens_turn is None else opens_turn,
        continue_final_message=bool(asked.continue_final_message),
        documents=asked.documents,
        tools=template_tools(tools),
        variables=variables,
        template=template,
        add_special_tokens=bool(asked.add_special_tokens),
    )


def _tool_parts(message: ChatMessage) -> dict[str, Any]:
    """What a turn carries about calls; templates take the arguments as values, not as text."""
    parts: dict[str, Any] = {}
    if message.tool_calls:
        parts["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.function.name,
                    "arguments": read_arguments(call, "tool_calls"),
                },
            }
            for call in message.tool_calls
        ]
    reasoning = message.reasoning_content or message.reasoning
    named = {
        "tool_call_id": message.tool_call_id,
        "name": message.name,
        "reasoning_content": reasoning,
    }
    return parts | {key: value for key, value in named.items() if value is not None}


def _content(message: ChatMessage) -> str | list[dict[str, Any]]:
    parts = message.content
    if not isinstance(parts, list) or all(part.image_url is None for part in parts):
        return message_text(message)
    return [
        {"type": "text", "text": part.text}
        if part.image_url is None
        else {"type": "image_url", "image_url": part.image_url}
        for part in parts
    ]


def template_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Give templates what they know: `developer` is what newer clients call `system`.

    The content is a text, or a list of parts where some are images.
    """
    return [
        {
            "role": "system" if message.role == "developer" else message.role,
            "content": _content(message),
            **_tool_parts(message),
        }
        for message in messages
    ]
