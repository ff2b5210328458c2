"""Look through a JSON schema for what cannot be kept, and say where. Pure.

An answer is made to fit token by token, so a keyword that needs the whole value at once (`not`,
`uniqueItems`, `contains`, ...) cannot be enforced. Such a schema is refused with a JSON pointer to
the keyword (RFC 6901) and never half enforced. Keywords of draft 2020-12 and, for `definitions`,
of older drafts; names that are in no draft are annotations and ignored, as the drafts say.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from banyan.foundation.errors import RequestError

Schema = Mapping[str, Any] | bool

MAX_DEPTH = 64
# Compiling takes time in the square of the properties of one object: 0.2 s for these.
MAX_SCHEMAS = 1024

FORMATS = (
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
)
TYPES = ("null", "boolean", "object", "array", "number", "integer", "string")

_UNSUPPORTED = frozenset(
    (
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "contains",
        "minContains",
        "maxContains",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
        "additionalItems",
        "$dynamicRef",
        "$recursiveRef",
    )
)
_ONE_SCHEMA = ("additionalProperties", "items")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")


class SchemaError(RequestError):
    """A schema that cannot be enforced; `pointer` leads to the keyword at fault."""

    def __init__(self, pointer: str, problem: str) -> None:
        super().__init__(
            f"the JSON schema cannot be used at {pointer or 'its root'}: {problem}",
            parameter="structure",
        )
        self.pointer = pointer


def check_schema(schema: object, *, place: str = "") -> None:
    """Look through a whole schema; `place` is the pointer to it in something larger.

    Raises:
        SchemaError: the first keyword that is wrong or cannot be enforced, with its place.
    """
    for number, (pointer, part) in enumerate(subschemas(schema, place)):
        if number >= MAX_SCHEMAS:
            raise SchemaError(pointer, f"the whole has more than {MAX_SCHEMAS} schemas within it")
        if isinstance(part, bool):
            continue
        if not isinstance(part, Mapping):
            raise SchemaError(pointer, f"{_short(part)} is no schema; use an object, true or false")
        _check_keywords(part, pointer, schema)


def subschemas(schema: object, pointer: str = "") -> Iterator[tuple[str, object]]:
    """Yield each schema within `schema`, itself first, with the pointer to it.

    Raises:
        SchemaError: nested too deeply, or a keyword that holds schemas holds something else.
    """
    # A stack, not recursion: the depth is the caller's.
    waiting: list[tuple[str, object, int]] = [(pointer, schema, 1)]
    while waiting:
        place, part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise SchemaError(place, f"it is nested more than {MAX_DEPTH} schemas deep")
        yield place, part
        if isinstance(part, Mapping):
            waiting.extend(
                (f"{place}/{step}", child, depth + 1) for step, child in reversed(children(part))
            )


def children(schema: Mapping[str, Any]) -> list[tuple[str, object]]:
    """The schemas directly within one, each with the steps of a pointer to it."""
    found: list[tuple[str, object]] = []
    for keyword, value in schema.items():
        name = _escape(keyword)
        if keyword in _ONE_SCHEMA and not isinstance(value, list):
            found.append((name, value))
        elif keyword in _LISTS_OF_SCHEMAS and isinstance(value, list):
            found.extend((f"{name}/{index}", child) for index, child in enumerate(value))
        elif keyword in _MAPS_OF_SCHEMAS and isinstance(value, Mapping):
            found.extend((f"{name}/{_escape(key)}", child) for key, child in value.items())
    return found


def _check_keywords(schema: Mapping[str, Any], pointer: str, root: object) -> None:
    for keyword, value in schema.items():
        place = f"{pointer}/{_escape(keyword)}"
        if keyword in _UNSUPPORTED:
            raise SchemaError(
                place,
                f"the keyword {keyword!r} cannot be enforced while an answer is written; "
                "leave it out or describe the same values without it",
            )
        check = _CHECKS.get(keyword)
        problem = None if check is None else check(value)
        if problem is not None:
            raise SchemaError(place, problem)
    if isinstance(schema.get("$ref"), str):
        _check_reference(schema["$ref"], f"{pointer}/$ref", root)
    _check_bounds(schema, pointer)
    _check_num_properties(schema, pointer)


def _check_reference(reference: str, place: str, root: object) -> None:
    if not reference.startswith("#") or (reference != "#" and not reference.startswith("#/")):
        raise SchemaError(
            place, f"{_short(reference)} leads outside; only pointers such as '#/$defs/name' work"
        )
    found = root
    for step in reference.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise SchemaError(place, f"{_short(reference)} leads to nothing in this schema")


def _check_bounds(schema: Mapping[str, Any], pointer: str) -> None:
    for low, high in (
        ("minLength", "maxLength"),
        ("minItems", "maxItems"),
        ("minProperties", "maxProperties"),
        ("minimum", "maximum"),
    ):
        if low in schema and high in schema and schema[low] > schema[high]:
            raise SchemaError(
                f"{pointer}/{low}", f"{schema[low]} is more than {high}={schema[high]}"
            )


def _check_num_properties(schema: Mapping[str, Any], pointer: str) -> None:
    """Refuse a minimum that free names would have to reach: one name might come twice."""
    num_named = len(set(schema.get("required", ())))
    if schema.get("minProperties", 0) > num_named + 1:
        raise SchemaError(
            f"{pointer}/minProperties",
            f"{schema['minProperties']} is more than the {num_named} required properties plus "
            "one, and names that are not listed cannot be kept from repeating; list more in "
            "'required'",
        )


def _escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> str | None:
    return None if _is_number(value) else f"{_short(value)} is no number"


def _positive(value: object) -> str | None:
    fits = _is_number(value) and value > 0  # type: ignore[operator]
    return None if fits else f"{_short(value)} is no number above 0"


def _count(value: object) -> str | None:
    fits = _is_number(value) and value >= 0 and value == int(value)  # type: ignore[operator,call-overload]
    return None if fits else f"{_short(value)} is no whole number of 0 or more"


def _text(value: object) -> str | None:
    return None if isinstance(value, str) else f"{_short(value)} is no text"


def _mapping(value: object) -> str | None:
    return None if isinstance(value, Mapping) else f"{_short(value)} is no object"


def _schemas(value: object) -> str | None:
    return None if isinstance(value, list) and value else f"{_short(value)} is no list of schemas"


def _values(value: object) -> str | None:
    return None if isinstance(value, list) and value else f"{_short(value)} is no list of values"


def _names(value: object) -> str | None:
    fits = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return None if fits else f"{_short(value)} is no list of names"


def _type(value: object) -> str | None:
    names = value if isinstance(value, list) else [value]
    unknown = [name for name in names if name not in TYPES]
    if unknown or not names:
        return f"{_short(value)} is no type; use {', '.join(TYPES)}"
    return None


def _format(value: object) -> str | None:
    if value in FORMATS:
        return None
    return f"the format {_short(value)} cannot be enforced; known are {', '.join(FORMATS)}"


def _unique(value: object) -> str | None:
    if value is False:
        return None
    return "items cannot be kept from repeating while an answer is written; leave it out"


def _item_schema(value: object) -> str | None:
    if isinstance(value, list):
        return "a list of schemas is 'prefixItems' since draft 2020-12; use that"
    return None


_CHECKS: Mapping[str, Callable[[object], str | None]] = {
    "type": _type,
    "format": _format,
    "pattern": _text,
    "$ref": _text,
    "required": _names,
    "enum": _values,
    "uniqueItems": _unique,
    "items": _item_schema,
    "multipleOf": _positive,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _count
    ),
    **dict.fromkeys(_LISTS_OF_SCHEMAS, _schemas),
    **dict.fromkeys(_MAPS_OF_SCHEMAS, _mapping),
}
