"""How families of models write tool calls; each function is the parser of one.

The names in `registry` are vLLM's. Where text only looks like a call, it stays content: nothing
that a model wrote is lost but the marks around calls and the white space beside them.
"""

from banyan.gateway.parsing.json_calls import NoCall, json_arguments, json_call
from banyan.gateway.parsing.pieces import CallStart, Content
from banyan.gateway.parsing.reading import (
    ContentGate,
    Reader,
    Steps,
    collect_until,
    next_character,
    skip,
    text_until,
)
from banyan.gateway.parsing.tools import KnownTools

MAX_NAME_CHARACTERS = 256

PYTHON_TAG = "<|python_tag|>"
TOOL_CALLS = "[TOOL_CALLS]"
# Their marks hold a full-width bar and a lower block where others have spaces.
DEEPSEEK_CALLS = "<\uff5ctool\u2581calls\u2581begin\uff5c>"
DEEPSEEK_CALLS_END = "<\uff5ctool\u2581calls\u2581end\uff5c>"
DEEPSEEK_CALL = "<\uff5ctool\u2581call\u2581begin\uff5c>"
DEEPSEEK_CALL_END = "<\uff5ctool\u2581call\u2581end\uff5c>"
DEEPSEEK_SEPARATOR = "<\uff5ctool\u2581sep\uff5c>"


def hermes(reader: Reader, tools: KnownTools) -> Steps[None]:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`: Hermes, Qwen2.5, Qwen3."""
    gate, index = ContentGate(), 0
    while (marker := (yield from text_until(reader, ("<tool_call>",), gate.push))) is not None:
        failed = yield from json_call(reader, index)
        if failed is not None:
            yield gate.push(marker + failed.text) or Content("")
            continue
        gate.call()
        index += 1
        yield from skip(reader, "</tool_call>")
    yield gate.finish()


def llama3_json(reader: Reader, tools: KnownTools) -> Steps[None]:
    """`{"name": ..., "parameters": {...}}`, several separated by `;`.

    `<|python_tag|>` may come first. Such JSON could be an answer, too, so only the names of tools
    that were given count.
    """
    gate, index = ContentGate(), 0
    tag = PYTHON_TAG if (yield from skip(reader, PYTHON_TAG)) else ""
    while True:
        failed = yield from json_call(reader, index, names=tools.names)
        if failed is not None:
            yield gate.push(tag + failed.text) or Content("")
            break
        gate.call()
        index, tag = index + 1, ""
        if (yield from skip(reader, ";")):
            tag = ";"
        elif (yield from next_character(reader)) != "{":
            break
    yield from text_until(reader, (), gate.push)
    yield gate.finish()


def mistral(reader: Reader, tools: KnownTools) -> Steps[None]:
    """`[TOOL_CALLS]` before a JSON list of calls, or before a name and its arguments."""
    gate, index = ContentGate(), 0
    while (marker := (yield from text_until(reader, (TOOL_CALLS,), gate.push))) is not None:
        first = yield from next_character(reader)
        if first == "[":
            # Space before a list that is none belongs to the text.
            marker += reader.text[: reader.text.index("[")]
            num_calls, rest = yield from _mistral_list(reader, index)
        else:
            num_calls, rest = yield from _mistral_call(reader, index)
        if num_calls:
            gate.call()
            index += num_calls
            yield gate.push(rest) or Content("")
        else:
            yield gate.push(marker + rest) or Content("")
    yield gate.finish()


def _mistral_list(reader: Reader, first_index: int) -> Steps[tuple[int, str]]:
    """Read `[{...}, {...}]`; returns how many calls there were and text that belongs to none."""
    yield from skip(reader, "[")
    num_calls, opening = 0, "["
    while True:
        failed = yield from json_call(reader, first_index + num_calls)
        if failed is not None:
            return num_calls, opening + failed.text
        num_calls += 1
        if (yield from skip(reader, ",")):
            opening = ","
            continue
        yield from skip(reader, "]")
        return num_calls, ""


def _mistral_call(reader: Reader, index: int) -> Steps[tuple[int, str]]:
    """Read `name{...}`, `name[ARGS]{...}` or `name[CALL_ID]id[ARGS]{...}`."""
    name, end = yield from collect_until(
        reader, ("{", "[ARGS]", "[CALL_ID]", "\n", TOOL_CALLS), most=MAX_NAME_CHARACTERS
    )
    if end not in {"{", "[ARGS]", "[CALL_ID]"} or not name.strip():
        reader.text = (end or "") + reader.text
        return 0, name
    if end == "[CALL_ID]":
        call_id, stop = yield from collect_until(reader, ("[ARGS]",), most=MAX_NAME_CHARACTERS)
        if stop is None:
            return 0, name + end + call_id
    if end == "{":
        reader.text = "{" + reader.text
    yield CallStart(index, name.strip())
    yield from json_arguments(reader, index)
    return 1, ""


def deepseek(reader: Reader, tools: KnownTools) -> Steps[None]:
    """DeepSeek V3 and R1 (`function`, separator, name, JSON in a fence) and V3.1 (name, JSON)."""
    gate, index = ContentGate(), 0
    markers = (DEEPSEEK_CALLS, DEEPSEEK_CALL)
    while (marker := (yield from text_until(reader, markers, gate.push))) is not None:
        if marker == DEEPSEEK_CALLS:
            if not (yield from _comes(reader, DEEPSEEK_CALL)):
                yield gate.push(marker) or Content("")
            continue
        failed = yield from _deepseek_call(reader, index)
        if failed is not None:
            yield gate.push(marker + failed.text) or Content("")
            continue
        gate.call()
        index += 1
        yield from skip(reader, DEEPSEEK_CALL_END)
        yield from skip(reader, DEEPSEEK_CALLS_END)
    yield gate.finish()


def _comes(reader: Reader, marker: str) -> Steps[bool]:
    """Take white space before a marker and say whether the marker comes next; leave it."""
    found = yield from skip(reader, marker)
    if found:
        reader.text = marker + reader.text
    return found


def _deepseek_call(reader: Reader, index: int) -> Steps[NoCall | None]:
    limit = MAX_NAME_CHARACTERS
    head, end = yield from collect_until(
        reader, (DEEPSEEK_SEPARATOR, DEEPSEEK_CALL, DEEPSEEK_CALL_END), most=limit
    )
    if end != DEEPSEEK_SEPARATOR:
        reader.text = (end or "") + reader.text
        return NoCall(head)
    name = head.strip()
    is_fenced = name == "function"
    if is_fenced:
        line, line_end = yield from collect_until(reader, ("\n", DEEPSEEK_CALL_END), most=limit)
        if line_end != "\n" or not line.strip():
            reader.text = (line_end or "") + reader.text
            return NoCall(head + end + line)
        name = line.strip()
        yield from skip(reader, "```json")
    if not name:
        return NoCall(head + end)
    yield CallStart(index, name)
    yield from json_arguments(reader, index)
    if is_fenced:
        yield from skip(reader, "```")
    return None
