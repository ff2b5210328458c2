"""Read JSON files of a model directory, with errors that name file, field and value.

Called by every reader of the models layer. Never guesses: a field is absent, right, or refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banyan.foundation.errors import ModelError


def read_json(path: Path) -> Any:
    """Parse a JSON file; raises `ModelError` when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist; the model directory is incomplete") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one JSON object; `origin` says in errors where they came from.

    A field that is null counts as absent, as it does in transformers.
    """

    values: Mapping[str, Any]
    origin: str

    @classmethod
    def read(cls, path: Path) -> "Fields":
        """Read a file that must hold a JSON object."""
        values = read_json(path)
        if not isinstance(values, dict):
            raise ModelError(f"{path} must hold a JSON object, found {type(values).__name__}")
        return cls(values, str(path))

    def has(self, name: str) -> bool:
        """Tell whether the field is there and not null."""
        return self.values.get(name) is not None

    def integer(self, name: str, default: int | None = None, *, minimum: int = 1) -> int:
        """Give an integer of at least `minimum`; absent without a default is an error."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._refusal(name, value, "an integer")
        if value < minimum:
            raise self._refusal(name, value, f"at least {minimum}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Give an integer or a float as a float."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refusal(name, value, "a number")
        try:
            return float(value)
        except OverflowError as error:
            raise self._refusal(name, "an integer beyond all floats", "a number") from error

    def optional_number(self, name: str) -> float | None:
        """Give the number, or None when the field is absent."""
        return self.number(name) if self.has(name) else None

    def flag(self, name: str, default: bool) -> bool:
        """Give true or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self._refusal(name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Give a string."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self._refusal(name, value, "a string")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """Give one integer or a list of integers as a tuple; absent is empty."""
        value = self.values.get(name)
        items = [] if value is None else value if isinstance(value, list) else [value]
        if any(isinstance(item, bool) or not isinstance(item, int) for item in items):
            raise self._refusal(name, value, "an integer or a list of integers")
        return tuple(items)

    def texts(self, name: str) -> tuple[str, ...]:
        """Give a list of strings as a tuple; absent is empty."""
        value = self.values.get(name)
        items = [] if value is None else value
        if not isinstance(items, list) or any(not isinstance(item, str) for item in items):
            raise self._refusal(name, value, "a list of strings")
        return tuple(items)

    def nested(self, name: str) -> "Fields | None":
        """Give the fields of an object inside this one, or None when absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._refusal(name, value, "a JSON object")
        return Fields(value, f"{self.origin} ({name})")

    def _value(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        if value is None:
            value = default
        if value is None:
            raise ModelError(f"{self.origin} lacks the field {name!r}")
        return value

    def _refusal(self, name: str, value: Any, wanted: str) -> ModelError:
        return ModelError(f"{self.origin}: {name!r} must be {wanted}, found {value!r}")
