"""Tool calls written as JSON, taken apart while they come.

The name is told as soon as the arguments begin, and the arguments character by character, as the
model wrote them. When keys come in another order, the call is told when it is whole.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from banyan.gateway.parsing.pieces import CallArguments, CallStart, Content
from banyan.gateway.parsing.reading import Reader, Steps, next_character

_HEAD = re.compile(
    r'\s*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,'
    r'\s*"(?:arguments|parameters)"\s*:\s*',
    re.DOTALL,
)
_OUTSIDE_STRINGS = frozenset('{}[],:"0123456789+-.eEtrufalsn \t\r\n')
_PAIRS = {"}": "{", "]": "["}


class JsonScanner:
    """Follows the brackets and strings of JSON, one character after the other.

    Attributes:
        depth: open brackets.
        is_broken: the characters so far are the beginning of no JSON value.
    """

    def __init__(self) -> None:
        self._open: list[str] = []
        self._in_string = False
        self._is_escaped = False
        self.is_broken = False

    @property
    def depth(self) -> int:
        """Open brackets."""
        return len(self._open)

    def step(self, character: str) -> None:
        """Read one character."""
        if self._in_string:
            if self._is_escaped:
                self._is_escaped = False
            elif character == "\\":
                self._is_escaped = True
            elif character == '"':
                self._in_string = False
        elif character not in _OUTSIDE_STRINGS:
            self.is_broken = True
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._open.append(character)
        elif character in "}]":
            if self._open and self._open[-1] == _PAIRS[character]:
                self._open.pop()
            else:
                self.is_broken = True


@dataclass(frozen=True, slots=True)
class NoCall:
    """What was taken is no call: its text, of which nothing was told."""

    text: str


def json_call(
    reader: Reader, index: int, *, names: Collection[str] | None = None
) -> Steps[NoCall | None]:
    """Read `{"name": ..., "arguments": {...}}`; `names` are the only ones that count, if given."""
    if (yield from next_character(reader)) != "{":
        return NoCall("")
    # Nothing is taken before it is known what it is; `place` is how far it was looked at.
    scanner, place = JsonScanner(), 0
    while True:
        while place < len(reader.text):
            character = reader.text[place]
            if character == "{" and scanner.depth == 1:
                head = _HEAD.fullmatch(reader.text, 0, place)
                if head is not None:
                    return (yield from _begun_call(reader, head, index, names))
            scanner.step(character)
            if scanner.is_broken:
                return NoCall(reader.take(place))
            place += 1
            if scanner.depth == 0 and not character.isspace():
                return (yield from _whole_call(reader.take(place), index, names))
        if reader.is_whole:
            return NoCall(reader.take(place))
        yield None


def _begun_call(
    reader: Reader, head: re.Match[str], index: int, names: Collection[str] | None
) -> Steps[NoCall | None]:
    """Tell a call whose arguments begin behind `head`."""
    name = _loads(head[1])
    taken = reader.take(head.end())
    if not isinstance(name, str) or not name or _is_other(name, names):
        return NoCall(taken)
    yield CallStart(index, name)
    yield from json_arguments(reader, index)
    yield from _tail(reader)
    return None


def json_arguments(reader: Reader, index: int) -> Steps[None]:
    """Tell a JSON object as arguments, as far as it is one; none become an empty object."""
    if (yield from next_character(reader)) != "{":
        yield CallArguments(index, "{}")
        return
    reader.text = reader.text.lstrip()
    scanner = JsonScanner()
    while True:
        for place, character in enumerate(reader.text):
            scanner.step(character)
            if scanner.is_broken or scanner.depth == 0:
                yield CallArguments(index, reader.take(place + (not scanner.is_broken)))
                return
        yield CallArguments(index, reader.take(len(reader.text)))
        if reader.is_whole:
            return
        yield None


def _tail(reader: Reader) -> Steps[None]:
    """Take what follows the arguments up to the end of the call; what is no JSON is content."""
    scanner, place = JsonScanner(), 0
    scanner.step("{")
    while True:
        while place < len(reader.text) and scanner.depth and not scanner.is_broken:
            scanner.step(reader.text[place])
            place += not scanner.is_broken
        if not scanner.depth or scanner.is_broken or reader.is_whole:
            break
        yield None
    raw = reader.take(place)
    if raw.strip() and not isinstance(_loads('{"":0' + raw), dict):
        yield Content(raw)


def _whole_call(raw: str, index: int, names: Collection[str] | None) -> Steps[NoCall | None]:
    call = _loads(raw)
    if not isinstance(call, dict):
        return NoCall(raw)
    name = call.get("name")
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _loads(arguments)
    if arguments is None:
        arguments = {}
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return NoCall(raw)
    if _is_other(name, names):
        return NoCall(raw)
    yield CallStart(index, name)
    yield CallArguments(index, json.dumps(arguments, ensure_ascii=False))
    return None


def _is_other(name: str, names: Collection[str] | None) -> bool:
    return names is not None and name not in names


def _loads(text: str) -> Any:
    """Read JSON as models write it, line breaks in strings included; None when it is none."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
