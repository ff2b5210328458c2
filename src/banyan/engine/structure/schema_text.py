"""A JSON schema as llguidance is given it: white space bounded, idle keywords dropped. Pure."""

import json
from collections.abc import Mapping
from typing import Any

# Between the parts of JSON. Bounded, so that a weak model cannot write line breaks for ever.
WHITESPACE = r"[\x20\x0A\x0D\x09]{1,40}"

_VALUES = frozenset(("enum", "const", "default", "examples"))


def embedded_schema(schema: Mapping[str, Any] | bool) -> str:
    """Write a schema to stand in a grammar behind `%json`."""
    whole = {"x-guidance": {"whitespace_pattern": WHITESPACE}, **plain_schema(schema)}
    return json.dumps(whole, ensure_ascii=False)


def plain_schema(schema: Mapping[str, Any] | bool) -> dict[str, Any]:
    """Drop options for llguidance itself, and `uniqueItems: false`, which it does not know."""
    if isinstance(schema, bool):
        return {"allOf": [schema]}  # options need an object to stand in
    # A schema may carry such options, which could switch checks off.
    plain = _without_idle({key: value for key, value in schema.items() if key != "x-guidance"})
    assert isinstance(plain, dict)
    return plain


def _without_idle(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_idle(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: value if key in _VALUES else _without_idle(value)
        for key, value in schema.items()
        if not (key == "uniqueItems" and value is False)
    }
