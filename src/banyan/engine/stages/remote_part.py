"""A part that another process computes, and the loop of that process.

Every message is a question with one answer, in order; "run" may be asked several times before the
first answer is read. An answer "failed" carries the error of the worker. Weights are never sent: a
worker reads its own from the files of the model.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from banyan.compiler.cutting.segments import Segment
from banyan.compiler.cutting.shards import Shard
from banyan.compiler.executable import Array, WeightSource
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.report import CompileReport
from banyan.distributed.channel import Channel, Message
from banyan.engine.stages.part import NumberedSegment, Part
from banyan.foundation.errors import (
    BanyanError,
    ChannelClosed,
    ChannelError,
    InputError,
    StageFailed,
)

CALLERS_FAULTS = frozenset({"InputError", "ModelError", "UnsupportedModelError"})
"""Errors of a worker that whoever asked can mend."""


class WorkOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to hold; the graphs of its segments come beside it, as text.

    Attributes:
        place: the device of the plan.
        device: its name on the worker's machine; empty where the worker was started with one.
        model: directory or hub id.
        options: of the engine, as plain values.
        dtype: to compute in.
        cache_format: how keys and values are kept.
        segments: number, sent, title and received of each.
        shards: name -> (whole weight, axis, start, stop).
    """

    place: str
    device: str
    model: str
    options: dict[str, Any]
    dtype: str
    cache_format: str
    segments: tuple[tuple[int, tuple[str, ...], str, dict[str, str]], ...]
    shards: dict[str, tuple[str, int, int, int]]

    def weight_shards(self) -> Mapping[str, Shard]:
        """Which weights are parts of others."""
        return {name: Shard(*parts) for name, parts in self.shards.items()}

    def numbered(self, texts: Mapping[str, Array]) -> tuple[NumberedSegment, ...]:
        """The segments, from their texts."""
        return tuple(
            NumberedSegment(
                number,
                Segment(self.place, parse_graph(_text(texts[f"graph.{number}"])), received),
                sent,
                title,
            )
            for number, sent, title, received in self.segments
        )


def order_message(order: WorkOrder, segments: Sequence[NumberedSegment]) -> Message:
    """An order with the graphs."""
    texts = {
        f"graph.{n.number}": np.frombuffer(print_graph(n.segment.graph).encode(), np.uint8)
        for n in segments
    }
    return Message("open", msgspec.to_builtins(order), texts)


def described(segments: Sequence[NumberedSegment]) -> tuple[Any, ...]:
    """Segments as `WorkOrder` has them."""
    return tuple((n.number, n.sent, n.title, dict(n.segment.received)) for n in segments)


class RemotePart:
    """Asks a worker over a channel."""

    def __init__(self, place: str, channel: Channel, on_close: Callable[[bool], None]) -> None:
        """Take an open channel.

        Args:
            place: the device of the plan.
            channel: to the worker; closed by `close`.
            on_close: called then, to see a process off, with whether it still answered.
        """
        self.place = place
        self.reports: Sequence[CompileReport] = ()
        self._channel, self._on_close = channel, on_close
        self._answers = True
        self._num_unread = 0

    def open(self, order: WorkOrder, segments: Sequence[NumberedSegment]) -> None:
        """Let the worker compile.

        Raises:
            InputError: the worker cannot use what is asked of it.
            StageFailed: it failed, or is gone.
        """
        answer = self._ask(order_message(order, segments))
        self.reports = [msgspec.convert(r, CompileReport) for r in _listed(answer, "reports")]

    def load_weights(self, source: WeightSource) -> None:
        """See `Part`: the worker reads its own files."""
        del source
        self._ask(Message("load"))

    def allocate_state(self, sizes: Mapping[str, int]) -> None:
        """See `Part`."""
        self._ask(Message("allocate", dict(sizes)))

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """See `Part`: memory of another process, which that process plans."""
        answer = self._ask(Message("step_bytes", dict(most)))
        return int(str(answer.fields["bytes"]))

    def begin(self, number: int, arrays: Mapping[str, Array], *, is_first: bool) -> None:
        """See `Part`: the answer is read by `finish`."""
        self._send(Message("run", {"number": number, "is_first": is_first}, arrays))
        self._num_unread += 1

    def finish(self) -> Mapping[str, Array]:
        """See `Part`."""
        self._num_unread -= 1
        return self._receive().arrays

    def read_state_part(self, name: str, index: int) -> Array:
        """See `Part`."""
        answer = self._ask(Message("read", {"name": name, "index": index}))
        return answer.arrays["value"]

    def write_state_part(self, name: str, index: int, value: Array) -> None:
        """See `Part`."""
        self._ask(Message("write", {"name": name, "index": index}, {"value": value}))

    def write_state(self, name: str, value: Array) -> None:
        """See `Part`."""
        self._ask(Message("write", {"name": name, "index": -1}, {"value": value}))

    def close(self) -> None:
        """See `Part`."""
        self._channel.close()
        self._on_close(self._answers)

    def _ask(self, message: Message) -> Message:
        if self._num_unread:
            raise StageFailed(
                f"the worker of {self.place} still owes the answer of a step that failed; start "
                "the engine again"
            )
        self._send(message)
        return self._receive()

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except ChannelError as error:
            raise self._gone(error) from error

    def _receive(self) -> Message:
        try:
            answer = self._channel.receive()
        except ChannelError as error:
            raise self._gone(error) from error
        if answer.kind != "failed":
            return answer
        said = str(answer.fields["message"])
        if answer.fields["error"] in CALLERS_FAULTS:
            raise InputError(f"the worker of {self.place}: {said}")
        raise StageFailed(f"the worker of {self.place}: {said}", place=self.place)

    def _gone(self, error: ChannelError) -> StageFailed:
        self._answers = False
        return StageFailed(
            f"the worker of {self.place} is gone ({error}); start the engine again, or plan "
            "without this device",
            place=self.place,
        )


OpenPart = Callable[[WorkOrder, tuple[NumberedSegment, ...]], tuple[Part, WeightSource]]
"""Compiles what an order says; gives the part and where its weights come from."""


def serve_part(channel: Channel, open_part: OpenPart) -> None:
    """Answer until the channel is closed; the loop of a worker."""
    worker = _Worker(open_part)
    try:
        while True:
            message = channel.receive()
            try:
                answer = worker.answer(message)
            except (BanyanError, MemoryError) as error:
                fields = {"error": type(error).__name__, "message": str(error)}
                answer = Message("failed", fields)
            channel.send(answer)
    except ChannelClosed:
        return
    finally:
        worker.close()


class _Worker:
    """Does what messages ask."""

    def __init__(self, open_part: OpenPart) -> None:
        self._open_part = open_part
        self._opened: tuple[Part, WeightSource] | None = None

    def answer(self, message: Message) -> Message:
        """What is answered to a message."""
        if message.kind == "open":
            self.close()
            order = msgspec.convert(dict(message.fields), WorkOrder)
            self._opened = self._open_part(order, order.numbered(message.arrays))
            reports = msgspec.to_builtins(list(self._opened[0].reports))
            return Message("opened", {"reports": reports})
        if self._opened is None:
            raise StageFailed("was asked to work before it was told what to hold")
        part, source = self._opened
        fields: Any = message.fields
        if message.kind == "run":
            # Values that stay here may lie in memory the other side reuses: only results of this
            # process are kept, and arguments for the rest of their step.
            part.begin(fields["number"], message.arrays, is_first=fields["is_first"])
            return Message("done", {}, part.finish())
        if message.kind == "load":
            part.load_weights(source)
        elif message.kind == "allocate":
            part.allocate_state(fields)
        elif message.kind == "step_bytes":
            return Message("done", {"bytes": part.step_bytes(fields)})
        elif message.kind == "read":
            value = part.read_state_part(fields["name"], fields["index"])
            return Message("done", {}, {"value": value})
        elif fields["index"] < 0:
            part.write_state(fields["name"], message.arrays["value"])
        else:
            part.write_state_part(fields["name"], fields["index"], message.arrays["value"])
        return Message("done")

    def close(self) -> None:
        """Give the part back."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None


def _listed(message: Message, name: str) -> list[Any]:
    found: Any = message.fields[name]
    return list(found)


def _text(array: Array) -> str:
    return bytes(np.ascontiguousarray(array)).decode()
