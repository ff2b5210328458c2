"""The pieces that an answer's text is taken apart into."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text that the model wrote for itself."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """The model begins its `index`-th call of a tool."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the JSON text of a call's arguments."""

    index: int
    text: str


Piece: TypeAlias = Content | Reasoning | CallStart | CallArguments


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Join neighbours of one kind; pieces without text are left out."""
    found: list[Piece] = []
    for piece in pieces:
        if not isinstance(piece, CallStart) and not piece.text:
            continue
        last = found[-1] if found else None
        match last, piece:
            case Content(before), Content(text):
                found[-1] = Content(before + text)
            case Reasoning(before), Reasoning(text):
                found[-1] = Reasoning(before + text)
            case CallArguments(index, before), CallArguments(same, text) if index == same:
                found[-1] = CallArguments(index, before + text)
            case _:
                found.append(piece)
    return found
