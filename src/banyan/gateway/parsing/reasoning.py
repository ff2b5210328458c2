"""A section of reasoning at the beginning of an answer, told apart from the answer."""

from dataclasses import dataclass

from banyan.gateway.parsing.pieces import Content, Reasoning
from banyan.gateway.parsing.reading import Reader, Steps, skip, text_until


@dataclass(frozen=True, slots=True)
class ReasoningMarks:
    """The texts around a section of reasoning."""

    begin: str
    end: str


THINK = ReasoningMarks("<think>", "</think>")
MISTRAL_THINK = ReasoningMarks("[THINK]", "[/THINK]")


def split_reasoning(reader: Reader, marks: ReasoningMarks, *, is_inside: bool) -> Steps[None]:
    """Tell reasoning and content; `is_inside`: the prompt has opened the section already.

    Line breaks beside the marks are layout and dropped.
    """
    if is_inside or (yield from skip(reader, marks.begin)):
        section = _Section()
        ended = yield from text_until(reader, (marks.end,), section.push)
        if ended is None:
            return
        while not reader.text.lstrip("\n") and not reader.is_whole:
            reader.text = ""
            yield None
        reader.text = reader.text.lstrip("\n")
    yield from text_until(reader, (), Content)


class _Section:
    """Reasoning on its way out, without line breaks at its borders."""

    def __init__(self) -> None:
        self._is_first = True
        self._breaks = ""

    def push(self, text: str) -> Reasoning | None:
        if self._is_first:
            text = text.lstrip("\n")
        kept = text.rstrip("\n")
        if not kept:
            self._breaks += text
            return None
        out, self._breaks = self._breaks + kept, text[len(kept) :]
        self._is_first = False
        return Reasoning(out)
