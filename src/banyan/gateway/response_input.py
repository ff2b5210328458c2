"""From a responses request to the chat request that means the same.

Owns the translation of items, tools and formats, and of the names of fields in errors: what chat
serves and refuses, responses serve and refuse.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from banyan.foundation.errors import RequestError
from banyan.gateway.errors import ApiError, refuse, to_api_error
from banyan.gateway.wire.chat import ChatRequest
from banyan.gateway.wire.parsing import parse_request
from banyan.gateway.wire.responses import InputItem, ResponsesRequest

Message = Mapping[str, Any]

# Fields with the same name and meaning on both sides.
_SAME_NAMES = (
    "model",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
    "ignore_eos",
    "stream",
    "parallel_tool_calls",
    "chat_template_kwargs",
    "user",
    "safety_identifier",
    "priority",
    "cache_salt",
    "deadline_seconds",
)
# Where the same field has another name, for errors.
_NAMES = (
    ("response_format.json_schema.schema", "text.format.schema"),
    ("response_format", "text.format"),
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("reasoning_effort", "reasoning.effort"),
    ("messages", "input"),
)
_TEXT_PARTS = ("input_text", "output_text", "text")


def chat_request(asked: ResponsesRequest, messages: Sequence[Message]) -> ChatRequest:
    """Build the chat request; `messages` are the whole conversation without instructions.

    Raises:
        ApiError: 400, naming the field of the responses request at fault.
    """
    body = {name: getattr(asked, name) for name in _SAME_NAMES}
    head = [] if not asked.instructions else [{"role": "system", "content": asked.instructions}]
    body["messages"] = [*head, *messages]
    body["max_completion_tokens"] = asked.max_output_tokens
    if asked.wants_logprobs:
        body |= {"logprobs": True, "top_logprobs": asked.top_logprobs}
    if asked.reasoning is not None:
        body["reasoning_effort"] = asked.reasoning.effort
    if asked.tools:
        body |= {"tools": _tools(asked.tools), "tool_choice": _choice(asked.tool_choice)}
    body["response_format"] = _format(asked)
    try:
        return parse_request(
            msgspec.json.encode({name: value for name, value in body.items() if value is not None}),
            ChatRequest,
        )
    except ApiError as error:
        raise renamed(error) from error


def renamed(error: ApiError | RequestError) -> ApiError:
    """Spell an error of a chat request with the names of a responses request."""
    parameter = error.parameter
    message = str(error)
    for theirs, ours in _NAMES:
        if parameter is not None and parameter.startswith(theirs):
            parameter = ours + parameter[len(theirs) :]
        message = message.replace(theirs, ours)
    told = to_api_error(error)
    return ApiError(
        told.status,
        message,
        kind=told.kind,
        parameter=parameter,
        code=told.code,
        retry_after_seconds=told.retry_after_seconds,
    )


def input_messages(given: str | Sequence[InputItem]) -> list[Message]:
    """Turn the input into turns of a conversation.

    Raises:
        ApiError: 400, naming the item that cannot be used.
    """
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not given:
        raise refuse("input is empty; send at least one item", parameter="input")
    messages: list[dict[str, Any]] = []
    for index, item in enumerate(given):
        _append(messages, item, f"input[{index}]")
    return list(messages)


def output_messages(output: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Turn the items of a former response into turns of a conversation."""
    return input_messages([msgspec.convert(item, InputItem) for item in output]) if output else []


def _append(messages: list[dict[str, Any]], item: InputItem, place: str) -> None:
    if item.type == "message":
        content = _content(item.content, place)
        messages.append({"role": item.role or "user", "content": content})
    elif item.type == "function_call":
        call = {
            "id": _required(item.call_id, f"{place}.call_id"),
            "type": "function",
            "function": {
                "name": _required(item.name, f"{place}.name"),
                "arguments": item.arguments or "",
            },
        }
        # Calls made together, and the words before them, are one turn of the model.
        last = messages[-1] if messages else {}
        if last.get("role") == "assistant":
            last.setdefault("tool_calls", []).append(call)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif item.type == "function_call_output":
        identity = _required(item.call_id, f"{place}.call_id")
        content = _content(item.output, f"{place}.output")
        messages.append({"role": "tool", "tool_call_id": identity, "content": content})
    elif item.type != "reasoning":  # thoughts of former turns are not shown to the model again
        raise refuse(
            f"{place} is an item of type {item.type!r}, which is not served; use message, "
            "function_call, function_call_output or reasoning",
            parameter=f"{place}.type",
            code="unsupported_parameter",
        )


def _required(value: str | None, place: str) -> str:
    if value is None:
        raise refuse(f"{place} is missing; it is required", parameter=place, code="missing_field")
    return value


def _content(
    content: str | Sequence[Mapping[str, Any]] | None, place: str
) -> str | list[dict[str, Any]]:
    if content is None or isinstance(content, str):
        return _required(content, f"{place}.content")
    parts: list[dict[str, Any]] = []
    for index, part in enumerate(content):
        kind = part.get("type")
        if kind in _TEXT_PARTS:
            parts.append({"type": "text", "text": part.get("text")})
        elif kind == "refusal":
            parts.append({"type": "text", "text": part.get("refusal")})
        elif kind == "input_image" and part.get("image_url"):
            parts.append({"type": "image_url", "image_url": {"url": part["image_url"]}})
        else:
            raise refuse(
                f"{place}.content[{index}] is a part of type {kind!r}, which is not served; "
                "use input_text or input_image with an image_url",
                parameter=f"{place}.content[{index}]",
                code="unsupported_parameter",
            )
    return parts


def _tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for index, tool in enumerate(tools):
        if tool.get("type") != "function":
            raise refuse(
                f"tools[{index}].type is {tool.get('type')!r}; only 'function' is served",
                parameter=f"tools[{index}].type",
                code="unsupported_parameter",
            )
        function = {name: value for name, value in tool.items() if name != "type"}
        found.append({"type": "function", "function": function})
    return found


def _choice(choice: str | Mapping[str, Any] | None) -> str | dict[str, Any] | None:
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        named = _allowed(choice.get("tools"))
        allowed = {"mode": choice.get("mode", "auto"), "tools": named}
        return {"type": "allowed_tools", "allowed_tools": allowed}
    if isinstance(choice, Mapping):
        return {"type": choice.get("type"), "function": {"name": choice.get("name")}}
    return choice


def _allowed(tools: object) -> list[dict[str, Any]]:
    if tools is not None and not isinstance(tools, list):
        raise refuse(
            f"tool_choice.tools is {type(tools).__name__}; send a list of tools",
            parameter="tool_choice.tools",
            code="invalid_type",
        )
    found = []
    for index, tool in enumerate(tools or ()):
        if not isinstance(tool, Mapping):
            raise refuse(
                f"tool_choice.tools[{index}] is {type(tool).__name__}; send "
                '{"type": "function", "name": ...}',
                parameter=f"tool_choice.tools[{index}]",
                code="invalid_type",
            )
        found.append({"type": tool.get("type"), "function": {"name": tool.get("name")}})
    return found


def _format(asked: ResponsesRequest) -> dict[str, Any] | None:
    shape = None if asked.text is None else asked.text.format
    if shape is None:
        return None
    if shape.type != "json_schema":
        return {"type": shape.type}
    schema = {"name": shape.name or "", "schema": shape.schema, "strict": shape.strict}
    return {
        "type": "json_schema",
        "json_schema": {name: value for name, value in schema.items() if value is not None},
    }
