"""A JSON schema as llguidance is given it. Pure.

White space is bounded, idle keywords are dropped, and bounds that llguidance gets wrong are moved
by a hair to the safe side.
"""

import json
from collections.abc import Mapping
from math import ulp
from typing import Any, TypeGuard

# Between the parts of JSON. Bounded, so that a weak model cannot write line breaks for ever.
WHITESPACE = r"[\x20\x0A\x0D\x09]{1,40}"

# Beyond it a float is no bound that llguidance would read exactly.
_LARGEST = 1e15

_VALUES = frozenset(("enum", "const", "default", "examples"))


def embedded_schema(schema: Mapping[str, Any] | bool) -> str:
    """Write a schema to stand in a grammar behind `%json`."""
    whole = {"x-guidance": {"whitespace_pattern": WHITESPACE}, **plain_schema(schema)}
    return json.dumps(whole, ensure_ascii=False)


def plain_schema(schema: Mapping[str, Any] | bool) -> dict[str, Any]:
    """Drop options for llguidance itself and what asks for nothing; keep exclusive bounds safe."""
    if isinstance(schema, bool):
        return {"allOf": [schema]}  # options need an object to stand in
    # A schema may carry such options, which could switch checks off.
    plain = _adjusted({key: value for key, value in schema.items() if key != "x-guidance"})
    assert isinstance(plain, dict)
    return plain


def _adjusted(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_adjusted(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    adjusted = {
        key: value if key in _VALUES else _adjusted(value)
        for key, value in schema.items()
        # llguidance does not know the keyword, and this value asks for nothing.
        if not (key == "uniqueItems" and value is False)
    }
    return adjusted if schema.get("type") == "integer" else _with_open_ends(adjusted)


def _with_open_ends(schema: dict[str, Any]) -> dict[str, Any]:
    """Write an exclusive bound that is a whole number as an inclusive one just behind it.

    llguidance 1.9 lets the bound itself through when the other bound has the same whole part
    (0 for "above 0, at most 0.5"), and the two may come from different branches of `allOf`. What
    is lost lies within a billionth of the bound.
    """
    for exclusive, inclusive, side in (
        ("exclusiveMinimum", "minimum", 1),
        ("exclusiveMaximum", "maximum", -1),
    ):
        bound = schema.get(exclusive)
        if _is_whole(bound):
            moved = bound + side * max(1e-9, 2 * ulp(bound))
            other = schema.get(inclusive, moved)
            schema[inclusive] = max(moved, other) if side > 0 else min(moved, other)
            del schema[exclusive]
    return schema


def _is_whole(bound: object) -> TypeGuard[float]:
    if not isinstance(bound, int | float) or isinstance(bound, bool):
        return False
    return abs(bound) < _LARGEST and bound == int(bound)
