"""The shape an answer must have, as a caller asks for it. Plain, validated data.

What the text means is read in `grammar_text`; it is turned into masks over tokens in `guidance`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from banyan.foundation.errors import RequestError

StructureKind = Literal[
    "json_schema", "json_object", "regex", "grammar", "choice", "structural_tag"
]
KINDS: tuple[str, ...] = get_args(StructureKind)

# A schema is read, checked and compiled before the request may wait: this bounds the work.
MAX_CHARACTERS = 256 * 1024
MAX_CHOICES = 4096
MAX_MARKER_CHARACTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What an answer must match; a wrong value raises `RequestError` naming field and limit.

    The class methods build one from Python values and are the usual way.

    Attributes:
        kind: how `text` is meant.
        text: a JSON schema, a regular expression, a grammar (Lark or GBNF), a JSON list of
            choices, or the JSON of a structural tag; empty for "json_object".
        any_whitespace: JSON may be written with spaces and line breaks between its parts.
        after: the structure begins after this text, which ends a section of reasoning; "" begins
            at once.
        opening: with `after`: the section may be left out, and begins with this text when it is
            there; "" when the prompt has opened it already.
    """

    kind: StructureKind
    text: str = ""
    any_whitespace: bool = True
    after: str = ""
    opening: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RequestError(
                f"structure kind {self.kind!r} is not known; use one of {', '.join(KINDS)}",
                parameter="structure",
            )
        if len(self.text) > MAX_CHARACTERS:
            raise RequestError(
                f"the {self.kind} has {len(self.text)} characters; at most {MAX_CHARACTERS} are "
                "allowed",
                parameter="structure",
            )
        for name in ("after", "opening"):
            num_characters = len(getattr(self, name))
            if num_characters > MAX_MARKER_CHARACTERS:
                raise RequestError(
                    f"{name} has {num_characters} characters; at most {MAX_MARKER_CHARACTERS} are "
                    "allowed",
                    parameter="structure",
                )
        if self.kind != "json_object" and not self.text:
            raise RequestError(f"the {self.kind} is empty", parameter="structure")

    @classmethod
    def json_schema(
        cls, schema: Mapping[str, Any] | bool | str, *, any_whitespace: bool = True
    ) -> "Structure":
        """JSON that is valid for a schema (draft 2020-12), given as a value or as JSON text."""
        text = schema if isinstance(schema, str) else _to_json(schema, "json_schema")
        return cls(kind="json_schema", text=text, any_whitespace=any_whitespace)

    @classmethod
    def json_object(cls, *, any_whitespace: bool = True) -> "Structure":
        """Any JSON object."""
        return cls(kind="json_object", any_whitespace=any_whitespace)

    @classmethod
    def regex(cls, pattern: str) -> "Structure":
        """Text that matches the whole pattern (syntax of Rust's `regex`, no look-around)."""
        return cls(kind="regex", text=pattern)

    @classmethod
    def grammar(cls, text: str) -> "Structure":
        """Text derived from a grammar in Lark's or GBNF's notation."""
        return cls(kind="grammar", text=text)

    @classmethod
    def choice(cls, choices: Sequence[str]) -> "Structure":
        """One of several texts."""
        if isinstance(choices, str) or not all(isinstance(one, str) and one for one in choices):
            raise RequestError(
                "choice must be a list of texts, none of them empty", parameter="structure"
            )
        if not 1 <= len(choices) <= MAX_CHOICES:
            raise RequestError(
                f"choice has {len(choices)} texts; give 1 to {MAX_CHOICES}", parameter="structure"
            )
        return cls(kind="choice", text=_to_json(list(choices), "choice"))

    @classmethod
    def structural_tag(cls, tag: Mapping[str, Any]) -> "Structure":
        """Free text in which each trigger begins a part that keeps to a schema.

        `tag` is {"structures": [{"begin", "schema", "end"}, ...], "triggers": [...]}, as in vLLM.
        """
        return cls(kind="structural_tag", text=_to_json(tag, "structural_tag"))


def _to_json(value: object, name: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(
            f"the {name} cannot be written as JSON: {error}", parameter="structure"
        ) from error
