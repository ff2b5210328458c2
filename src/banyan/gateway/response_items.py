"""The items of a response while they grow, and the events that tell of it.

Owns the order of a stream's events: an item is added, a part of it is added, text comes, the part
is done, the item is done. One item is open at a time. Every event is numbered by its sender.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from banyan.gateway.replies.chat import ChatDelta, TokenLogprob
from banyan.gateway.replies.responses import (
    FunctionCallItem,
    OutputItem,
    OutputMessage,
    OutputText,
    ReasoningItem,
    ReasoningText,
)

Event = dict[str, Any]


class ResponseItems:
    """The output so far; `add` and `finish` return the events of each change."""

    def __init__(self) -> None:
        self.done: list[OutputItem] = []
        self._kind: str | None = None
        self._id = ""
        self._text = ""
        self._name = ""
        self._call_id = ""
        self._logprobs: list[TokenLogprob] = []

    def add(self, delta: ChatDelta, logprobs: Sequence[TokenLogprob] = ()) -> Iterator[Event]:
        """Take more of the answer."""
        for call in delta.tool_calls or ():
            if call.function.name is not None:
                yield from self.finish()
                self._name, self._call_id = call.function.name, call.id or ""
                yield from self._open("function_call", "fc")
            if call.function.arguments:
                yield from self._grow(
                    "response.function_call_arguments.delta", call.function.arguments
                )
        if delta.reasoning_content:
            yield from self._turn_to("reasoning", "rs")
            yield from self._grow("response.reasoning_text.delta", delta.reasoning_content)
        if delta.content:
            yield from self._turn_to("message", "msg")
            self._logprobs.extend(logprobs)
            told = msgspec.to_builtins(list(logprobs))
            yield from self._grow("response.output_text.delta", delta.content, logprobs=told)

    def finish(self, *, status: str = "completed") -> Iterator[Event]:
        """Close the open item, if there is one."""
        if self._kind is None:
            return
        item = self._item(status)
        if self._kind == "message":
            done = {"text": self._text, "logprobs": msgspec.to_builtins(self._logprobs)}
            yield self._event("response.output_text.done", content_index=0, **done)
            yield self._event("response.content_part.done", content_index=0, part=self._part(item))
        elif self._kind == "reasoning":
            yield self._event("response.reasoning_text.done", content_index=0, text=self._text)
            yield self._event("response.content_part.done", content_index=0, part=self._part(item))
        else:
            yield self._event(
                "response.function_call_arguments.done", name=self._name, arguments=self._text
            )
        yield {
            "type": "response.output_item.done",
            "output_index": len(self.done),
            "item": msgspec.to_builtins(item),
        }
        self.done.append(item)
        self._kind = None

    def _turn_to(self, kind: str, prefix: str) -> Iterator[Event]:
        if self._kind != kind:
            yield from self.finish()
            yield from self._open(kind, prefix)

    def _open(self, kind: str, prefix: str) -> Iterator[Event]:
        self._kind, self._id, self._text, self._logprobs = kind, f"{prefix}_{uuid4().hex}", "", []
        item = self._item("in_progress")
        shown = msgspec.to_builtins(item)
        if kind != "function_call":
            shown["content"] = []
        yield {
            "type": "response.output_item.added",
            "output_index": len(self.done),
            "item": shown,
        }
        if kind != "function_call":
            yield self._event("response.content_part.added", content_index=0, part=self._part(item))

    def _grow(self, name: str, text: str, **told: Any) -> Iterator[Event]:
        self._text += text
        place = {} if self._kind == "function_call" else {"content_index": 0}
        yield self._event(name, delta=text, **place, **told)

    def _event(self, kind: str, /, **told: Any) -> Event:
        return {"type": kind, "item_id": self._id, "output_index": len(self.done), **told}

    def _item(self, status: str) -> OutputItem:
        if self._kind == "message":
            text = OutputText(text=self._text, logprobs=list(self._logprobs))
            return OutputMessage(id=self._id, status=status, content=[text])
        if self._kind == "reasoning":
            thought = ReasoningText(text=self._text)
            return ReasoningItem(id=self._id, status=status, content=[thought])
        return FunctionCallItem(
            id=self._id,
            status=status,
            call_id=self._call_id,
            name=self._name,
            arguments=self._text,
        )

    def _part(self, item: OutputItem) -> Any:
        assert not isinstance(item, FunctionCallItem)
        return msgspec.to_builtins(item.content[0])
