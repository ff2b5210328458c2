"""From the text of one answer to the message or the deltas of a chat reply."""

from uuid import uuid4

from banyan.gateway.parsing.pieces import CallArguments, CallStart, Content, Piece, Reasoning
from banyan.gateway.replies.chat import (
    AnswerMessage,
    CalledFunction,
    ChatDelta,
    DeltaFunction,
    DeltaToolCall,
    ToolCall,
)
from banyan.gateway.tool_calling import AnswerReading

# Mistral's template refuses ids of any other length.
_ID_CHARACTERS = {"mistral": 9}


class AnswerReader:
    """Reads one answer; its calls get their ids here.

    Attributes:
        has_calls: the model called a tool.
    """

    def __init__(self, reading: AnswerReading) -> None:
        self._reading = reading
        self._parser = reading.parser()
        self.has_calls = False

    def deltas(self, text: str, *, is_last: bool) -> list[ChatDelta]:
        """Read more of the text; returns what a stream adds to the answer."""
        pieces = self._parser.feed(text)
        if is_last:
            pieces += self._parser.finish()
        return [delta for piece in pieces if (delta := self._delta(piece)) is not None]

    def message(self, text: str) -> AnswerMessage:
        """Read a whole answer."""
        content, reasoning = "", ""
        calls: list[ToolCall] = []
        for delta in self.deltas(text, is_last=True):
            content += delta.content or ""
            reasoning += delta.reasoning or ""
            for call in delta.tool_calls or ():
                name, arguments = call.function.name, call.function.arguments or ""
                if name is not None:
                    assert call.id is not None
                    calls.append(ToolCall(call.id, CalledFunction(name, arguments)))
                else:
                    before = calls[call.index].function
                    whole = CalledFunction(before.name, before.arguments + arguments)
                    calls[call.index] = ToolCall(calls[call.index].id, whole)
        shown = reasoning if self._reading.shows_reasoning and reasoning else None
        return AnswerMessage(
            content=content if content or not (calls or reasoning) else None,
            reasoning=shown,
            reasoning_content=shown,
            tool_calls=calls,
        )

    def finish_reason(self, reason: str | None) -> str | None:
        """The reason to tell: an answer that calls tools and is whole waits for their results."""
        return "tool_calls" if reason == "stop" and self.has_calls else reason

    def _delta(self, piece: Piece) -> ChatDelta | None:
        match piece:
            case Content(text):
                return ChatDelta(content=text)
            case Reasoning(text) if self._reading.shows_reasoning:
                return ChatDelta(reasoning=text, reasoning_content=text)
            case CallStart(index, name) if self._is_wanted(index):
                self.has_calls = True
                function = DeltaFunction(name=name, arguments="")
                call = DeltaToolCall(
                    index=index, id=self._new_id(), type="function", function=function
                )
                return ChatDelta(tool_calls=[call])
            case CallArguments(index, text) if self._is_wanted(index):
                call = DeltaToolCall(index=index, function=DeltaFunction(arguments=text))
                return ChatDelta(tool_calls=[call])
        return None

    def _is_wanted(self, index: int) -> bool:
        return index == 0 or not self._reading.only_first_call

    def _new_id(self) -> str:
        length = _ID_CHARACTERS.get(self._reading.style or "")
        return uuid4().hex[:length] if length else f"call_{uuid4().hex[:24]}"
