"""JSON schemas of the shapes that public suites have, made by chance: one for each number.

Every keyword that can be enforced takes part, alone and combined: types and lists of types, enums
and constants, bounds, lengths, patterns, formats, objects open and closed, maps, patterns of names,
tuples, unions, intersections, references, recursion, annotations. Unions whose branches may
overlap, and other things that are refused, have tests of their own.
"""

from collections.abc import Callable
from random import Random
from typing import Any

Schema = dict[str, Any]

NAMES = (
    "id",
    "name",
    "kind",
    "tags",
    "size",
    "next",
    "a b",
    'qu"ote',
    "\u00fcber",
    "$x",
    "x.y",
    "",
)
WORDS = ("red", "green", "", 'a "b"', "line\nbreak", "\u00e9t\u00e9", "\\", "\u6c49", "</x>", "0")
PATTERNS = (
    "^[a-z]{2,5}$",
    "^\\d{3}-\\d{4}$",
    "^(GET|POST|PUT)$",
    "^[A-Z][a-z]*( [A-Z][a-z]*)?$",
    "^#[0-9a-fA-F]{6}$",
    "^v?[0-9]+\\.[0-9]+(\\.[0-9]+)?$",
    "^[^@\\s]{1,8}@[a-z]{1,8}\\.com$",
    "^ab+c$",
    "^x",
    "[0-9]",
    "^\\+?[1-9]\\d{1,14}$",
    "^(a|b)*c{0,3}$",
)
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


def schema_of(number: int) -> Schema:
    """Return the schema of a number, always the same one."""
    return _Maker(Random(number)).whole()


class _Maker:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.definitions: dict[str, Schema] = {}
        self.unfinished: set[str] = set()

    def whole(self) -> Schema:
        make = self.random.choice((self.any, self.object, self.object, self.recursive, self.union))
        schema = dict(make(3))
        if self.random.random() < 0.3:
            schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        if self.definitions:
            key = "$defs" if "#/$defs/" in str(schema) + str(self.definitions) else "definitions"
            schema[key] = self.definitions
        return schema

    def any(self, depth: int) -> Schema:
        leaves: list[Callable[[], Schema]] = [
            self.number,
            self.integer,
            self.string,
            self.string,
            self.formatted,
            self.enum,
            self.constant,
            self.plain_type,
            self.type_list,
        ]
        nodes: list[Callable[[int], Schema]] = [
            self.object,
            self.object,
            self.mapping,
            self.array,
            self.tuple,
            self.union,
            self.one_of,
            self.all_of,
            self.reference,
        ]
        if depth > 0 and self.random.random() < 0.65:
            made = self.random.choice(nodes)(depth - 1)
        else:
            made = self.random.choice(leaves)()
        if self.random.random() < 0.15:
            made = self.annotated(made)
        return made

    def annotated(self, schema: Schema) -> Schema:
        notes: Schema = {
            "title": "A title",
            "description": "Not a schema: {not: {}}",
            "examples": [{"not": 1}],
            "default": None,
            "$comment": "x",
            "deprecated": True,
            "x-vendor": {"if": 1},
        }
        picked = self.random.sample(sorted(notes), 2)
        return {**{key: notes[key] for key in picked}, **schema}

    def number(self) -> Schema:
        random = self.random
        low = random.choice((-1000, -1.5, 0, 0.25, 3))
        high = low + random.choice((0.5, 1, 10, 1e6))
        return random.choice(
            (
                {"type": "number", "minimum": low, "maximum": high},
                {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high},
                {"type": "number", "minimum": low},
                {"type": "number", "maximum": high},
                {"type": "number"},
            )
        )

    def integer(self) -> Schema:
        random = self.random
        low = random.choice((-(10**6), -17, 0, 1, 99))
        high = low + random.choice((0, 1, 9, 250, 10**7))
        return random.choice(
            (
                {"type": "integer", "minimum": low, "maximum": high},
                {"type": "integer", "exclusiveMinimum": low - 1, "exclusiveMaximum": high + 1},
                {"type": "integer", "minimum": low},
                {"type": "integer", "exclusiveMaximum": high},
                {"type": "integer", "multipleOf": random.choice((2, 5, 10)), "minimum": 0},
                {"type": "integer"},
            )
        )

    def string(self) -> Schema:
        random = self.random
        low = random.randrange(4)
        return random.choice(
            (
                {"type": "string"},
                {"type": "string", "maxLength": low + random.randrange(6)},
                {"type": "string", "minLength": low, "maxLength": low + random.randrange(20)},
                {"type": "string", "minLength": low},
                {"type": "string", "pattern": random.choice(PATTERNS)},
            )
        )

    def formatted(self) -> Schema:
        return {"type": "string", "format": self.random.choice(FORMATS)}

    def enum(self) -> Schema:
        values = [*WORDS, 0, -3, 1.5, True, None, {"a": [1]}, ["x"]]
        return {"enum": self.random.sample(values, self.random.randint(1, 6))}

    def constant(self) -> Schema:
        return {"const": self.random.choice((7, "x", None, False, [1, "a"], {"k": {"z": 2}}))}

    def plain_type(self) -> Schema:
        return {"type": self.random.choice(("null", "boolean", "integer", "string"))}

    def type_list(self) -> Schema:
        types = self.random.sample(("null", "boolean", "integer", "string", "number"), 2)
        return {"type": types, "maxLength": 5}

    def object(self, depth: int) -> Schema:
        random = self.random
        names = random.sample(NAMES, random.randrange(5))
        schema: Schema = {
            "type": "object",
            "properties": {name: self.any(depth) for name in names},
        }
        if names and random.random() < 0.8:
            schema["required"] = random.sample(names, random.randint(1, len(names)))
        choice = random.random()
        if choice < 0.6:
            schema["additionalProperties"] = False
        elif choice < 0.75:
            schema["additionalProperties"] = self.integer()
        if random.random() < 0.1 and "additionalProperties" in schema:
            schema["patternProperties"] = {"^p_[a-z]{1,3}$": self.any(0)}
        if random.random() < 0.1:
            schema["required"] = [*schema.get("required", ()), "unlisted"]
            if schema.get("additionalProperties") is False:
                del schema["additionalProperties"]
        return schema

    def mapping(self, depth: int) -> Schema:
        random = self.random
        schema: Schema = {"type": "object"}
        if random.random() < 0.5:
            schema["additionalProperties"] = self.any(min(depth, 1))
        else:
            schema["patternProperties"] = {
                "^[a-z]{1,4}$": self.any(min(depth, 1)),
                "^[0-9]+$": self.any(0),
            }
            schema["additionalProperties"] = False
        bounds = random.choice(((None, None), (1, None), (None, 2), (1, 3), (None, 0)))
        if bounds[0] is not None:
            schema["minProperties"] = bounds[0]
        if bounds[1] is not None:
            schema["maxProperties"] = bounds[1]
        return schema

    def array(self, depth: int) -> Schema:
        random = self.random
        low = random.randrange(3)
        schema: Schema = {"type": "array", "items": self.any(depth)}
        choice = random.random()
        if choice < 0.5:
            schema |= {"minItems": low, "maxItems": low + random.randrange(4)}
        elif choice < 0.7:
            schema["maxItems"] = low
        elif choice < 0.8:
            schema["minItems"] = low
        if random.random() < 0.1:
            schema["uniqueItems"] = False
        return schema

    def tuple(self, depth: int) -> Schema:
        random = self.random
        parts = [self.any(min(depth, 1)) for _ in range(random.randint(1, 3))]
        schema: Schema = {"type": "array", "prefixItems": parts}
        if random.random() < 0.7:
            schema["items"] = False
        if random.random() < 0.5:
            schema["minItems"] = len(parts)
        return schema

    def union(self, depth: int) -> Schema:
        return {"anyOf": [self.any(depth) for _ in range(self.random.randint(1, 3))]}

    def one_of(self, depth: int) -> Schema:
        if self.random.random() < 0.5:
            return {"oneOf": [{"type": "null"}, self.integer(), self.string()]}
        return {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": kind}, "value": self.any(depth)},
                    "required": ["kind", "value"],
                    "additionalProperties": False,
                }
                for kind in ("circle", "square")
            ]
        }

    def all_of(self, depth: int) -> Schema:
        random = self.random
        if random.random() < 0.3:
            return {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 40}]}
        if random.random() < 0.3:
            return {"type": "string", "allOf": [{"minLength": 2}, {"maxLength": 6}]}
        return {
            "allOf": [
                {"type": "object", "properties": {"left": self.any(depth)}, "required": ["left"]},
                {"type": "object", "properties": {"right": self.any(0)}, "required": ["right"]},
            ]
        }

    def reference(self, depth: int) -> Schema:
        name = self.random.choice(("thing", "a/b", "t~x"))
        if name in self.unfinished:  # a reference to itself and nothing else is no schema
            return {"type": "null"}
        if name not in self.definitions:
            self.unfinished.add(name)
            self.definitions[name] = self.any(min(depth, 1))
            self.unfinished.discard(name)
        escaped = name.replace("~", "~0").replace("/", "~1")
        return {"$ref": f"#/$defs/{escaped}"}

    def recursive(self, depth: int) -> Schema:
        if self.random.random() < 0.5:
            return {
                "type": "object",
                "properties": {
                    "value": self.any(0),
                    "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
                },
                "required": ["value", "next"],
                "additionalProperties": False,
            }
        self.definitions["tree"] = {
            "type": "object",
            "properties": {
                "leaf": self.any(0),
                "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
            },
            "required": ["leaf", "children"],
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "properties": {"root": {"$ref": "#/$defs/tree"}},
            "required": ["root"],
        }
