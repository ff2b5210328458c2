"""Takes apart what tools draw for people: boxes of cells, and sections of "name : value"."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


def boxed_rows(text: str, num_cells: int) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Give the rows of a table with `num_cells` cells to a line: each two lines after a border.

    Chips take two lines in the tables of npu-smi, mx-smi and cnmon, and begin with their number.
    """
    before: tuple[str, ...] | None = None
    for line in text.splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if not line.strip().startswith("|") or len(cells) != num_cells or not any(cells):
            before = None
        elif before is None:
            before = cells
        else:
            yield before, cells
            before = None


@dataclass(frozen=True, slots=True)
class Section:
    """One device's lines: what the head matched, and name -> value."""

    head: "re.Match[str]"
    values: Mapping[str, str]

    def first(self, *names: str) -> str:
        """Give the value of the first of these names that is there; empty when none is."""
        for name in names:
            if name in self.values:
                return self.values[name]
        return ""


def sections(text: str, head: str) -> tuple[Section, ...]:
    """Cut text where a line, stripped, matches `head` in full; the first value of a name counts."""
    found: list[tuple[re.Match[str], dict[str, str]]] = []
    for line in text.splitlines():
        if (match := re.fullmatch(head, line.strip())) is not None:
            found.append((match, {}))
        elif found:
            name, colon, value = line.partition(":")
            if colon:
                found[-1][1].setdefault(name.strip(), value.strip())
    return tuple(Section(match, values) for match, values in found)


def first_word(text: str) -> str:
    """The first word of a cell; "" where it has none."""
    return next(iter(text.split()), "")


def version_after(text: str, words: str) -> str | None:
    """Find the version that follows `words` and a colon; None where it is not there."""
    found = re.search(re.escape(words) + r"\s*:\s*([0-9A-Za-z][\w.+-]*)", text)
    return None if found is None else found[1]


def read_json(text: str) -> object:
    """Read the JSON value in `text`; warnings that a tool prints before it are skipped.

    Raises:
        ValueError: there is none.
    """
    start = re.search(r"^\s*[\[{]", text, re.MULTILINE)
    if start is None:
        raise ValueError("there is no JSON in the output")
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start.end() - 1)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    return value


def member(value: object, name: str) -> object:
    """Give a member of a JSON object; None where it is absent or `value` is no object."""
    return value.get(name) if isinstance(value, dict) else None


def objects(value: object, what: str) -> list[dict[str, object]]:
    """Give the objects of a JSON list.

    Raises:
        ValueError: it is no list of objects.
    """
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{what} is not a list of objects")
    return value
