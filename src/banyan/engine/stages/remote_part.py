"""A part that another process computes, as the engine asks for it.

A question has one answer, in order. Steps have none: a worker is told once per step what its
segments read ("step"), takes what it needs of others from themselves ("values"), and sends the
engine what is for the engine. Weights are never sent: a worker reads its own from the files of the
model. `part_service` is the other side.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, final

import msgspec
import numpy as np

from banyan.compiler.cutting.segments import Segment
from banyan.compiler.cutting.shards import Shard
from banyan.compiler.executable import Array, WeightSource
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.report import CompileReport
from banyan.distributed.channel import Channel, Message
from banyan.engine.stages.addresses import Neighbour
from banyan.engine.stages.part import ENGINE, NumberedSegment
from banyan.foundation.errors import ChannelError, InputError, PeerSilent, StageFailed

CALLERS_FAULTS = frozenset({"InputError", "ModelError", "UnsupportedModelError"})
"""Errors of a worker that whoever asked can mend."""

UNASKED = frozenset({"values", "failed", "lost", "busy"})
"""What a worker says without being asked: of steps, of its neighbours, of its time."""


class WorkOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to hold; the graphs of its segments come beside it, as text.

    Attributes:
        place: the device of the plan.
        device: its name on the worker's machine; empty where the worker was started with one.
        model: directory or hub id.
        options: of the engine, as plain values.
        dtype: to compute in.
        cache_format: how keys and values are kept.
        segments: number, sent, title and received of each; values for places in the engine's
            process are sent to `ENGINE`.
        shards: name -> (whole weight, axis, start, stop).
        neighbours: the workers it exchanges values with.
        session: names this opening of the plan; neighbours that know another are refused.
        has_several_steps: whether several steps are under way at a time.
    """

    place: str
    device: str
    model: str
    options: dict[str, Any]
    dtype: str
    cache_format: str
    segments: tuple[tuple[int, dict[str, tuple[str, ...]], str, dict[str, str]], ...]
    shards: dict[str, tuple[str, int, int, int]]
    neighbours: tuple[Neighbour, ...] = ()
    session: str = ""
    has_several_steps: bool = False

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


def described(segments: Sequence[NumberedSegment], workers: frozenset[str]) -> tuple[Any, ...]:
    """Segments as `WorkOrder` has them; places that are no workers are in the engine."""
    return tuple(
        (n.number, _by_process(n.sent, workers), n.title, dict(n.segment.received))
        for n in segments
    )


def _by_process(
    sent: Mapping[str, tuple[str, ...]], workers: frozenset[str]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for place, names in sent.items():
        process = place if place in workers else ENGINE
        found.setdefault(process, {}).update(dict.fromkeys(names))
    return {process: tuple(names) for process, names in found.items()}


@final
class RemotePart:
    """Asks a worker over a channel.

    Attributes:
        place: the device of the plan.
        channel: to the worker.
        reports: what compiling its segments did.
        on_unasked: told what comes while an answer is waited for; see `UNASKED`.
        send: over the channel; whoever has several workers reads others meanwhile.
    """

    def __init__(self, place: str, channel: Channel, on_close: Callable[[bool], None]) -> None:
        """Take an open channel.

        Args:
            place: the device of the plan.
            channel: to the worker; closed by `close`.
            on_close: called then, to see a process off, with whether it still answered.
        """
        self.place = place
        self.channel = channel
        self.reports: Sequence[CompileReport] = ()
        self.on_unasked: Callable[[str, Message], None] = _refuse_unasked
        self.send: Callable[[Message], None] = channel.send
        self._on_close = on_close
        self._answers = True

    def open(self, order: WorkOrder, segments: Sequence[NumberedSegment]) -> None:
        """Let the worker compile.

        Raises:
            InputError: the worker cannot use what is asked of it.
            StageFailed: it failed, or is gone.
        """
        answer = self._ask(order_message(order, segments))
        self.reports = [msgspec.convert(r, CompileReport) for r in _listed(answer, "reports")]

    def begin_meeting(self) -> None:
        """Let the worker connect to its neighbours, who are told the same at the same time."""
        self._send(Message("meet"))

    def finish_meeting(self) -> None:
        """Wait until it has.

        Raises:
            StageFailed: it does not reach one of them.
        """
        self._answer()

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

    def begin(self, step: int, arguments: Mapping[str, Array]) -> None:
        """Tell the worker what its segments read of a step."""
        self._send(Message("step", {"step": step}, arguments))

    def give(self, place: str, step: int, values: Mapping[str, Array]) -> None:
        """Give it values that a place in this process computed."""
        self._send(Message("values", {"step": step, "place": place}, values))

    def read_state_parts(
        self, names: Collection[str], indices: Sequence[int]
    ) -> Mapping[str, Array]:
        """See `Part`; one message there and one back."""
        return self._ask(Message("read", {"names": [*names], "indices": [*indices]})).arrays

    def write_state_parts(self, values: Mapping[str, Array], indices: Sequence[int]) -> None:
        """See `Part`; one message there and one back."""
        self._ask(Message("write", {"indices": [*indices]}, values))

    def write_state(self, name: str, value: Array) -> None:
        """See `Part`."""
        self._ask(Message("replace", {}, {name: value}))

    def close(self) -> None:
        """See `Part`."""
        self.channel.close()
        self._on_close(self._answers)

    def gone(self, reason: object) -> StageFailed:
        """What to raise when the worker is no more."""
        self._answers = False
        return StageFailed(
            f"the worker of {self.place} is gone ({reason}); start the engine again, or plan "
            "without this device",
            place=self.place,
            is_silent=isinstance(reason, PeerSilent),
        )

    def failure(self, message: Message) -> InputError | StageFailed:
        """What to raise when it says that something failed."""
        fields: Any = message.fields
        said = f"the worker of {self.place}: {fields['message']}"
        if fields["error"] in CALLERS_FAULTS:
            return InputError(said)
        return StageFailed(said, place=self.place)

    def _ask(self, message: Message) -> Message:
        self._send(message)
        return self._answer()

    def _answer(self) -> Message:
        while True:
            try:
                message = self.channel.receive()
            except ChannelError as error:
                raise self.gone(error) from error
            if message.kind == "refused":
                raise self.failure(message)
            if message.kind not in UNASKED:
                return message
            self.on_unasked(self.place, message)

    def _send(self, message: Message) -> None:
        try:
            self.send(message)
        except ChannelError as error:
            raise self.gone(error) from error


def _refuse_unasked(place: str, message: Message) -> None:
    raise StageFailed(f"the worker of {place} says {message.kind!r} before any step began")


def _listed(message: Message, name: str) -> list[Any]:
    found: Any = message.fields[name]
    return list(found)


def _text(array: Array) -> str:
    return bytes(np.ascontiguousarray(array)).decode()
