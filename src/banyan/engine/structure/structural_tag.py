"""Structural tags: free text in which each trigger begins a part that keeps to a schema. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from banyan.engine.structure.schema_check import check_schema
from banyan.engine.structure.schema_text import embedded_schema
from banyan.foundation.errors import RequestError

MAX_TAGS = 256


@dataclass(frozen=True, slots=True)
class Tag:
    """One kind of part: text that begins it, the schema of what follows, text that ends it."""

    trigger: str
    begin: str
    schema: Mapping[str, Any] | bool
    end: str


def structural_tag_grammar(text: str) -> str:
    """Write the JSON of a structural tag as a grammar.

    Raises:
        RequestError: it is malformed; names the field.
    """
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong("it", f"is no JSON: {error}") from None
    if not isinstance(asked, Mapping):
        raise _wrong("it", "is no object")
    return tags_grammar(_read_tags(asked))


def tags_grammar(tags: Sequence[Tag], *, at_least_one: bool = False) -> str:
    """Write free text with tags as a grammar in Lark's notation."""
    repeat = "+" if at_least_one else "*"
    names = " | ".join(f"tag_{index}" for index in range(len(tags)))
    lines = ["%llguidance {}", f"start: ({names}){repeat} rest", "rest: TEXT", r"TEXT: /(.|\n)*/"]
    for index, tag in enumerate(tags):
        lines += [
            f"tag_{index}_head[lazy]: TEXT {literal(tag.trigger)}",
            " ".join(
                part
                for part in (
                    f"tag_{index}: tag_{index}_head",
                    literal(tag.begin[len(tag.trigger) :]),
                    f"%json {embedded_schema(tag.schema)}",
                    literal(tag.end),
                )
                if part
            ),
        ]
    return "\n".join(lines)


def literal(text: str) -> str:
    """Quote a text for a grammar; nothing for nothing."""
    return json.dumps(text, ensure_ascii=False) if text else ""


def _read_tags(asked: Mapping[str, Any]) -> list[Tag]:
    triggers, structures = asked.get("triggers"), asked.get("structures")
    if not isinstance(triggers, list) or not all(isinstance(t, str) and t for t in triggers):
        raise _wrong("triggers", "must be a list of texts, none of them empty")
    if not isinstance(structures, list) or not 1 <= len(structures) <= MAX_TAGS:
        raise _wrong("structures", f"must be a list of 1 to {MAX_TAGS} objects")
    return [_read_tag(one, f"/structures/{i}", triggers) for i, one in enumerate(structures)]


def _read_tag(one: Any, place: str, triggers: Sequence[str]) -> Tag:
    if not isinstance(one, Mapping):
        raise _wrong(place, "is no object")
    begin, end, schema = one.get("begin"), one.get("end", ""), one.get("schema", True)
    if not isinstance(begin, str) or not isinstance(end, str):
        raise _wrong(place, "needs the texts 'begin' and 'end'")
    fitting = [trigger for trigger in triggers if begin.startswith(trigger)]
    if not fitting:
        raise _wrong(f"{place}/begin", f"{begin!r} begins with none of the triggers")
    check_schema(schema, place=f"{place}/schema")
    return Tag(max(fitting, key=len), begin, schema, end)


def _wrong(place: str, problem: str) -> RequestError:
    return RequestError(
        f"the structural tag cannot be used: {place} {problem}", parameter="structure"
    )
