"""What parsers know of the tools of a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_MOST_REFERENCES = 8


@dataclass(frozen=True, slots=True)
class KnownTools:
    """The tools a model was told of: the JSON schema of its arguments by name."""

    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """Names of all tools."""
        return frozenset(self.parameters)

    def is_text(self, tool: str, parameter: str) -> bool:
        """True when an argument is a text, or nobody said what it is."""
        types = self.types(tool, parameter)
        return not types or types <= {"string"}

    def types(self, tool: str, parameter: str) -> frozenset[str]:
        """JSON types that an argument may have; empty when nobody said."""
        whole = self.parameters.get(tool, {})
        properties = whole.get("properties")
        schema = properties.get(parameter) if isinstance(properties, Mapping) else None
        found: set[str] = set()
        for part in _alternatives(_resolved(schema, whole)):
            kind = _resolved(part, whole).get("type")
            # Nobody checks the schema of a tool that is not enforced: it may hold anything.
            kinds = kind if isinstance(kind, list) else [kind]
            found.update(name for name in kinds if isinstance(name, str))
        return frozenset(found)


def _alternatives(schema: Mapping[str, Any]) -> list[Any]:
    more = [schema.get(key) for key in ("anyOf", "oneOf")]
    return [schema, *(part for parts in more if isinstance(parts, list) for part in parts)]


def _resolved(schema: Any, whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references; what leads nowhere or in a circle says nothing."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, Mapping):
            break
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = whole
        for step in reference.removeprefix("#").split("/")[1:]:
            schema = schema.get(step) if isinstance(schema, Mapping) else None
    return {}
