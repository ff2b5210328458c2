"""Tool calls as Qwen3-Coder writes them: one XML element for each argument.

    <tool_call>
    <function=name>
    <parameter=key>
    value
    </parameter>
    </function>
    </tool_call>

Values are no JSON: a text stands as it is, and anything else is read by the type in the tool's
schema. Texts are told while they come.
"""

import json
from typing import Any

from banyan.gateway.parsing.pieces import CallArguments, CallStart, Content
from banyan.gateway.parsing.reading import (
    ContentGate,
    Reader,
    Steps,
    collect_until,
    skip,
    text_until,
)
from banyan.gateway.parsing.styles import MAX_NAME_CHARACTERS
from banyan.gateway.parsing.tools import KnownTools

_CALL, _CALL_END = "<tool_call>", "</tool_call>"
_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "</parameter>"


def qwen3_coder(reader: Reader, tools: KnownTools) -> Steps[None]:
    """Calls with or without `<tool_call>` around them."""
    gate, index = ContentGate(), 0
    while (marker := (yield from text_until(reader, (_CALL, _FUNCTION), gate.push))) is not None:
        if marker == _CALL:
            if not (yield from skip(reader, _FUNCTION)):
                yield gate.push(marker) or Content("")
                continue
            marker += _FUNCTION
        name, end = yield from collect_until(reader, (">", "<", "\n"), most=MAX_NAME_CHARACTERS)
        if end != ">" or not name.strip():
            reader.text = (end or "") + reader.text
            yield gate.push(marker + name) or Content("")
            continue
        gate.call()
        yield from _call(reader, index, name.strip(), tools, gate)
        gate.call()
        index += 1
        yield from skip(reader, _CALL_END)
    yield gate.finish()


def _call(
    reader: Reader, index: int, name: str, tools: KnownTools, gate: ContentGate
) -> Steps[None]:
    yield CallStart(index, name)
    yield CallArguments(index, "{")
    separator = ""
    # What stands between the elements of a call belongs to none of them.
    markers = (_PARAMETER, _FUNCTION_END, _CALL_END)
    while (marker := (yield from text_until(reader, markers, gate.push))) == _PARAMETER:
        key, end = yield from collect_until(reader, (">", "<", "\n"), most=MAX_NAME_CHARACTERS)
        if end != ">":
            reader.text = (end or "") + reader.text
            yield gate.push(marker + key) or Content("")
            continue
        key = key.strip()
        yield CallArguments(index, f"{separator}{json.dumps(key, ensure_ascii=False)}: ")
        separator = ", "
        if tools.is_text(name, key):
            yield from _text_value(reader, index)
        else:
            yield from _other_value(reader, index, tools.types(name, key))
    if marker is not None:
        yield CallArguments(index, "}")
    if marker == _CALL_END:
        reader.text = marker + reader.text


def _text_value(reader: Reader, index: int) -> Steps[None]:
    yield CallArguments(index, '"')
    value = _Framed()

    def told(text: str) -> CallArguments:
        return CallArguments(index, json.dumps(value.push(text), ensure_ascii=False)[1:-1])

    end = yield from text_until(reader, (_PARAMETER_END, _FUNCTION_END), told)
    if end is not None:
        yield CallArguments(index, '"')
    if end == _FUNCTION_END:
        reader.text = end + reader.text


def _other_value(reader: Reader, index: int, types: frozenset[str]) -> Steps[None]:
    text = ""

    def keep(part: str) -> None:
        nonlocal text
        text += part

    end = yield from text_until(reader, (_PARAMETER_END, _FUNCTION_END), keep)
    value = _converted(text.strip(), types)
    yield CallArguments(index, json.dumps(value, ensure_ascii=False))
    if end == _FUNCTION_END:
        reader.text = end + reader.text


class _Framed:
    """Drops the line break after the opening mark and the one before the closing mark."""

    def __init__(self) -> None:
        self._is_first = True
        self._held = ""

    def push(self, text: str) -> str:
        if self._is_first:
            self._is_first = False
            text = text.removeprefix("\n")
        text = self._held + text
        self._held = "\n" if text.endswith("\n") else ""
        return text.removesuffix("\n")


def _converted(text: str, types: frozenset[str]) -> Any:
    """Read a value by its type; what does not fit stays a text."""
    if "boolean" in types and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if "null" in types and text.lower() in {"null", "none"}:
        return None
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, str) or ("string" in types and not _kinds(value) & types):
        return text
    return value


def _kinds(value: Any) -> frozenset[str]:
    """The JSON types that a value which is no text has."""
    match value:
        case None:
            return frozenset({"null"})
        case bool():
            return frozenset({"boolean"})
        case int():
            return frozenset({"integer", "number"})
        case float():
            return frozenset({"number"})
        case list():
            return frozenset({"array"})
    return frozenset({"object"})
