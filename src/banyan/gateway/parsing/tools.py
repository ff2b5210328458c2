"""What parsers know of the tools of a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
        properties = self.parameters.get(tool, {}).get("properties", {})
        schema = properties.get(parameter, {}) if isinstance(properties, Mapping) else {}
        if not isinstance(schema, Mapping):
            return frozenset()
        found: set[str] = set()
        for part in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())):
            kind = part.get("type") if isinstance(part, Mapping) else None
            found.update(kind if isinstance(kind, list) else [kind] if kind else [])
        return frozenset(name for name in found if isinstance(name, str))
