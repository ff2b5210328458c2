"""Tables of TOML text, read strictly: every key is known, every value has its kind.

A sentence of ours says which file, which table and which key. Pure: text in, values out.
"""

import difflib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from banyan.foundation.errors import InputError
from banyan.planner.quantities import shown

Value = TypeVar("Value")

LONGEST_TEXT = 16_000_000
"""Characters; a plan of 100,000 devices has about a tenth of them."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a file.

    Attributes:
        values: as tomllib read them.
        place: the file, and where in it the table stands.
    """

    values: Mapping[str, Any]
    place: str

    @classmethod
    def read(cls, text: str, origin: str) -> "Table":
        """Parse a whole file; `origin` is its name in errors.

        Raises:
            InputError: it is no TOML, with the line that is at fault.
        """
        if len(text) > LONGEST_TEXT:
            raise InputError(
                f"{origin} has {len(text)} characters; at most {LONGEST_TEXT} are read"
            )
        try:
            return cls(tomllib.loads(text), origin)
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{origin} is no TOML: {reason}; mend that line") from error

    def allow(self, *known: str) -> None:
        """Refuse a key that is not among the known ones.

        Raises:
            InputError: names the key and the one that is spelled most like it.
        """
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
                raise InputError(f"{self.place} has the unknown key {shown(key)}; {hint}")

    def has(self, key: str) -> bool:
        """Tell whether the key is there."""
        return key in self.values

    def value(self, key: str, read: Callable[[object, str], Value], *, example: str) -> Value:
        """Read a value that must be there; `example` shows one in the error."""
        if key not in self.values:
            raise InputError(f"{self.place} lacks {key!r}; add a line such as {key} = {example}")
        return read(self.values[key], f"{self.place}: {key}")

    def optional(self, key: str, read: Callable[[object, str], Value], absent: Value) -> Value:
        """Read a value, or give `absent`."""
        if key not in self.values:
            return absent
        return read(self.values[key], f"{self.place}: {key}")

    def needed(
        self,
        key: str,
        read: Callable[[object, str], Value],
        found: Value | None,
        *,
        example: str,
    ) -> Value:
        """Read a value, or give what was found elsewhere; without either it must be there."""
        if found is None:
            return self.value(key, read, example=example)
        return self.optional(key, read, found)

    def table(self, key: str) -> "Table":
        """Give a table in this one; empty where it is absent."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise InputError(
                f"{self.place}: {key}={shown(value)} cannot be used; write a table [{key}]"
            )
        is_inside = self.place.endswith("]") and not self.place.endswith("]]")
        return Table(value, f"{self.place[:-1]}.{key}]" if is_inside else f"{self.place} [{key}]")

    def tables(self, key: str) -> tuple["Table", ...]:
        """Give the tables of a list, numbered from 1 in errors; none where it is absent."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise InputError(
                f"{self.place}: {key}={shown(value)} cannot be used; write tables [[{key}]]"
            )
        return tuple(
            Table(item, f"{self.place} [[{key}]] {number}")
            for number, item in enumerate(value, start=1)
        )

    def named_tables(self) -> Iterator[tuple[str, "Table"]]:
        """Give every table in this one by its key; anything else in it is refused."""
        for key in self.values:
            yield key, self.table(key)


def read_text(value: object, name: str) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InputError(f'{name}={shown(value)} cannot be used; write a text such as "one"')
    return value


def read_texts(value: object, name: str) -> tuple[str, ...]:
    """Read a list of texts."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f'{name}={shown(value)} cannot be used; write a list such as ["one"]')
    return tuple(read_text(item, name) for item in value)
