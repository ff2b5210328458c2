"""Tool calls and their results as turns of a conversation."""

from collections.abc import Sequence
from typing import Any

import msgspec

from banyan.gateway.errors import ApiError, refuse


class CalledFunction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function the model called; `arguments` is the text of a JSON object."""

    name: str
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call in a former answer of the model; `index` is what streams add."""

    id: str
    function: CalledFunction
    type: str = "function"
    index: int | None = None


def check_tool_calls(calls: Sequence[ToolCall], place: str) -> None:
    """Refuse calls whose arguments are no JSON object; `place` names the message.

    Raises:
        ApiError: 400, naming the field at fault.
    """
    for number, call in enumerate(calls):
        here = f"{place}.tool_calls[{number}]"
        if call.type != "function":
            raise refuse(
                f"{here}.type is {call.type!r}; only 'function' is served",
                parameter=f"{here}.type",
                code="unsupported_parameter",
            )
        read_arguments(call, here)


def read_arguments(call: ToolCall, place: str) -> dict[str, Any]:
    """Return the arguments of a call as values; templates expect them so.

    Raises:
        ApiError: 400, they are no JSON object.
    """
    text = call.function.arguments
    if not text.strip():
        return {}
    try:
        arguments = msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _wrong(place, f"is no JSON ({error})") from None
    if not isinstance(arguments, dict):
        raise _wrong(place, "is JSON but no object")
    return arguments


def _wrong(place: str, problem: str) -> ApiError:
    field = f"{place}.function.arguments"
    return refuse(f"{field} {problem}; send the text of a JSON object", parameter=field)
