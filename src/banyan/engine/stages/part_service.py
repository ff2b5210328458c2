"""The loop of a worker: answers the engine, and runs its segments as their values come.

Questions of the engine are answered between two segments. Values go straight to the workers that
take them; the engine gets results, values for places in its own process, and word of what fails.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from banyan.compiler.executable import Array, WeightSource
from banyan.distributed.channel import Channel, Message
from banyan.distributed.pulse import OwnPulse
from banyan.engine.stages.links import Arrival, Links
from banyan.engine.stages.meeting import Visitor
from banyan.engine.stages.part import ENGINE, LocalPart, NumberedSegment
from banyan.engine.stages.rehearsal import Rehearsal
from banyan.engine.stages.remote_part import WorkOrder
from banyan.engine.stages.segment_runner import SegmentRunner
from banyan.foundation.errors import BanyanError, ChannelClosed, ChannelError, StageFailed

OpenPart = Callable[[WorkOrder, tuple[NumberedSegment, ...]], tuple[LocalPart, WeightSource]]
"""Compiles what an order says; gives the part and where its weights come from."""

Meet = Callable[[WorkOrder], Mapping[str, Channel]]
"""Connects to the neighbours that an order names; see `Meeting.meet`."""

_BUSY_SECONDS = 0.5
"""A worker says no more often how long it has computed."""


def serve_part(
    engine: Visitor, open_part: OpenPart, meet: Meet, own_pulse: OwnPulse | None = None
) -> None:
    """Work for an engine until it closes its channel.

    Args:
        engine: its channel, and what it said already.
        open_part: what "open" does.
        meet: what "meet" does.
        own_pulse: of this worker, for all its channels.

    Raises:
        ChannelError: the engine is gone.
    """
    service = _Service(engine.channel, open_part, meet, own_pulse)
    try:
        service.serve(engine.said)
    except ChannelClosed:
        return
    finally:
        service.close()


class _Service:
    """A worker at work."""

    def __init__(
        self, channel: Channel, open_part: OpenPart, meet: Meet, own_pulse: OwnPulse | None
    ) -> None:
        self._open_part, self._meet = open_part, meet
        self._rehearsal = Rehearsal()
        self._links = Links({ENGINE: channel}, own_pulse, self._rehearsal.run)
        self._neighbours: dict[str, Channel] = {}
        self._order: WorkOrder | None = None
        self._opened: tuple[LocalPart, WeightSource] | None = None
        self._runner = SegmentRunner({}, (), self._give)
        self._say_busy_at = 0.0

    def serve(self, said: Message | None) -> None:
        """Until the engine closes its channel, which raises `ChannelClosed`."""
        if said is not None:
            self._take(Arrival(ENGINE, said))
        while True:
            if not self._run_next():
                arrival = self._links.receive(is_urgent=self._runner.is_awaited)
                assert arrival is not None, "without a limit something comes"
                # What it makes ready runs before anybody looks for more.
                self._take(arrival)
                continue
            while (more := self._links.receive(0)) is not None:
                self._take(more)

    def close(self) -> None:
        """Give everything back."""
        self._rehearsal.close()
        for neighbour in self._neighbours.values():
            neighbour.close()
        self._neighbours = {}
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    def _take(self, arrival: Arrival) -> None:
        content = arrival.content
        if isinstance(content, ChannelError):
            if arrival.name == ENGINE:
                raise content
            self._report_lost(arrival.name, content)
            return
        fields: Any = content.fields
        if content.kind == "step":
            self._runner.begin(fields["step"], content.arrays)
        elif content.kind == "values":
            try:
                source = arrival.name or fields["place"]
                self._runner.receive(source, fields["step"], content.arrays)
            except StageFailed as error:
                self._links.send(ENGINE, _failure("failed", error))
        else:
            self._links.send(ENGINE, self._answer(content))

    def _run_next(self) -> bool:
        try:
            has_run = self._runner.run_next()
            if has_run:
                self._say_busy()
            return has_run
        except ChannelError:
            raise
        except (BanyanError, MemoryError) as error:
            # The engine ends all steps; what waits for this one is given back with the rest.
            self._links.send(ENGINE, _failure("failed", error))
            return True

    def _say_busy(self) -> None:
        """Tell the engine now and then how long this place has computed."""
        now = time.monotonic()
        if now >= self._say_busy_at:
            self._say_busy_at = now + _BUSY_SECONDS
            self._links.send(
                ENGINE, Message("busy", {"seconds": sum(self._runner.busy_seconds.values())})
            )

    def _give(self, source: str, place: str, step: int, values: Mapping[str, Array]) -> None:
        del source
        message = Message("values", {"step": step}, values)
        if place == ENGINE:
            self._links.send(ENGINE, message)
            return
        try:
            self._links.send(place, message)
        except ChannelError as error:
            self._report_lost(place, error)

    def _report_lost(self, place: str, error: ChannelError) -> None:
        self._links.send(ENGINE, Message("lost", {"place": place, "message": str(error)}))

    def _answer(self, message: Message) -> Message:
        try:
            return self._answered(message)
        except (BanyanError, MemoryError) as error:
            return _failure("refused", error)

    def _answered(self, message: Message) -> Message:
        if message.kind == "open":
            return self._open(message)
        if self._opened is None or self._order is None:
            raise StageFailed("was asked to work before it was told what to hold")
        if message.kind == "meet":
            self._neighbours = dict(self._meet(self._order))
            for place, channel in self._neighbours.items():
                self._links.add(place, channel)
            return Message("done")
        return _answer_of(message, *self._opened)

    def _open(self, message: Message) -> Message:
        if self._opened is not None:
            raise StageFailed("was told twice what to hold")
        order = msgspec.convert(dict(message.fields), WorkOrder)
        segments = order.numbered(message.arrays)
        self._opened, self._order = self._open_part(order, segments), order
        part = self._opened[0]
        self._runner = SegmentRunner(
            {order.place: part}, segments, self._give, has_several_steps=order.has_several_steps
        )
        return Message("opened", {"reports": msgspec.to_builtins(list(part.reports))})


def _answer_of(message: Message, part: LocalPart, source: WeightSource) -> Message:
    """What a part says to a question about its weights and states."""
    fields: Any = message.fields
    if message.kind == "load":
        part.load_weights(source)
    elif message.kind == "allocate":
        part.allocate_state(fields)
    elif message.kind == "step_bytes":
        return Message("done", {"bytes": part.step_bytes(fields)})
    elif message.kind == "read":
        return Message("done", {}, part.read_state_parts(fields["names"], fields["indices"]))
    elif message.kind == "write":
        part.write_state_parts(message.arrays, fields["indices"])
    elif message.kind == "replace":
        for name, value in message.arrays.items():
            part.write_state(name, value)
    else:
        raise StageFailed(f"was asked to {message.kind!r}, which no worker does")
    return Message("done")


def _failure(kind: str, error: BanyanError | MemoryError) -> Message:
    return Message(kind, {"error": type(error).__name__, "message": str(error)})
