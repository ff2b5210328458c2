"""Parsers of text that comes in parts, written as if it were all there.

A parser is a generator over a `Reader`: it yields pieces as soon as they are certain, and None
where it has to see more text before it can go on. So it never matters where the parts are cut:
the same decisions are taken on the same text.
"""

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias, TypeVar

from banyan.gateway.parsing.pieces import Content, Piece, joined

Result = TypeVar("Result")
Steps: TypeAlias = Generator[Piece | None, None, Result]


class Reader:
    """Text that has come and is not taken yet; more may come until `is_whole`."""

    def __init__(self) -> None:
        self.text = ""
        self.is_whole = False

    def take(self, num_characters: int) -> str:
        """Remove and return the beginning."""
        taken, self.text = self.text[:num_characters], self.text[num_characters:]
        return taken


class Parser:
    """Runs one parsing generator over one answer.

    Args:
        begin: makes the generator; it must take all text there is.
    """

    def __init__(self, begin: Callable[[Reader], Steps[None]]) -> None:
        self._reader = Reader()
        self._steps = begin(self._reader)

    def feed(self, text: str) -> list[Piece]:
        """Take more text and return the pieces that are certain now."""
        self._reader.text += text
        return self._advance()

    def finish(self) -> list[Piece]:
        """Say that no more comes and return the last pieces."""
        self._reader.is_whole = True
        return self._advance()

    def _advance(self) -> list[Piece]:
        pieces: list[Piece] = []
        for piece in self._steps:
            if piece is None:
                break
            pieces.append(piece)
        return joined(pieces)


def text_until(
    reader: Reader, markers: Sequence[str], emit: Callable[[str], Piece | None]
) -> Steps[str | None]:
    """Emit text up to the first marker, take the marker and return it; None at the end.

    No marker may begin with another one. `emit` may keep text to itself by returning None.
    """
    while True:
        found = _first(reader.text, markers)
        held = 0 if reader.is_whole else num_held(reader.text, markers)
        before = reader.take(len(reader.text) - held if found is None else found[0])
        if before:
            piece = emit(before)
            if piece is not None:
                yield piece
        if found is not None:
            return reader.take(len(found[1]))
        if reader.is_whole:
            return None
        yield None


def collect_until(
    reader: Reader, markers: Sequence[str], *, most: int
) -> Steps[tuple[str, str | None]]:
    """Return the text up to the first marker and the marker, both taken.

    When the text ends first or more than `most` characters come first, nothing is taken and the
    marker is None.
    """
    while True:
        found = _first(reader.text, markers)
        if found is not None and found[0] <= most:
            text = reader.take(found[0])
            return text, reader.take(len(found[1]))
        is_too_far = len(reader.text) - num_held(reader.text, markers) > most
        if found is not None or is_too_far or reader.is_whole:
            return "", None
        yield None


def skip(reader: Reader, marker: str) -> Steps[bool]:
    """Take white space and a marker when they come next, else nothing; say which."""
    while True:
        rest = reader.text.lstrip()
        if rest.startswith(marker):
            reader.take(len(reader.text) - len(rest) + len(marker))
            return True
        if reader.is_whole or not marker.startswith(rest):
            return False
        yield None


def next_character(reader: Reader) -> Steps[str]:
    """Return the next character that is no white space, taking nothing; "" at the end."""
    while True:
        rest = reader.text.lstrip()
        if rest or reader.is_whole:
            return rest[:1]
        yield None


def num_held(text: str, markers: Sequence[str]) -> int:
    """Length of the longest end of a text that a marker could begin with."""
    longest = max(map(len, markers), default=0) - 1
    for size in range(min(longest, len(text)), 0, -1):
        end = text[-size:]
        if any(marker.startswith(end) for marker in markers):
            return size
    return 0


def _first(text: str, markers: Sequence[str]) -> tuple[int, str] | None:
    places = ((text.find(marker), marker) for marker in markers)
    return min((place for place in places if place[0] >= 0), default=None)


class ContentGate:
    """Content on its way out: white space waits, because around calls it is mere layout."""

    def __init__(self) -> None:
        self._space = ""
        self._is_after_call = False

    def push(self, text: str) -> Content | None:
        """Let text out but for white space at its end."""
        kept = text.rstrip()
        space = text[len(kept) :]
        if not kept:
            self._space += space
            return None
        if self._is_after_call:
            self._space = ""
            kept = kept.lstrip()
            self._is_after_call = False
        out, self._space = self._space + kept, space
        return Content(out)

    def call(self) -> None:
        """A call came: white space before it is layout, and so is what comes next."""
        self._space = ""
        self._is_after_call = True

    def finish(self) -> Content:
        """Let out what is left."""
        return Content("" if self._is_after_call else self._space)
