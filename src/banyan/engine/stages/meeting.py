"""How workers of a plan get their channels to each other.

Called by a worker when the engine says "meet", after all workers have compiled. Sockets that two
were started with are opened in the order of their pairs, so that no circle of workers waits; a
connection over TCP is taken by a thread of the other side's listener.
"""

import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from banyan.distributed.channel import Channel, Message
from banyan.distributed.listener import Listener
from banyan.distributed.local import open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.secret import SharedSecret, read_secret
from banyan.distributed.tcp import Address, connect_tcp
from banyan.engine.stages.addresses import Neighbour
from banyan.engine.stages.remote_part import WorkOrder
from banyan.foundation.errors import ChannelClosed, ChannelError, MessageLate, StageFailed

_INTRODUCTION = "neighbour"
_FIRST_WORD_SECONDS = 1.0
"""Neighbours and engines speak as soon as they are connected."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever came to a worker that listens and is no neighbour: an engine.

    Attributes:
        channel: to it.
        said: what it said already, if it was listened to.
        came: when, on the monotonic clock.
    """

    channel: Channel
    said: Message | None = None
    came: float = field(default_factory=time.monotonic)


class Meeting:
    """Connects one worker to its neighbours."""

    def __init__(
        self,
        conditions: Conditions,
        *,
        sockets: Mapping[str, int] | None = None,
        listener: Listener | None = None,
        secret: SharedSecret | None = None,
    ) -> None:
        """Take the ways there are.

        Args:
            conditions: of this worker's channels.
            sockets: neighbour of this host -> descriptor of a socket to it.
            listener: where neighbours connect.
            secret: to connect to others with; None: the one that the engine's options name.
        """
        self._conditions = conditions
        self._sockets = dict(sockets or {})
        self._listener = listener
        self._secret = secret
        self._visitors: deque[Visitor] = deque()

    def next_visitor(self) -> Visitor:
        """Who came while neighbours were waited for, else who comes next.

        Raises:
            ChannelClosed: this worker listens no more.
        """
        if self._visitors:
            return self._visitors.popleft()
        if self._listener is None:
            raise ChannelClosed("This worker does not listen.")
        return Visitor(self._listener.accept())

    def turn_away(self, seconds: float, reason: str) -> None:
        """Refuse engines that have waited so long; another thread than `meet`'s may ask for it.

        Neighbours do not wait so long: both sides of a pair are told to meet at the same time.
        """
        waiting: list[Visitor] = []
        if self._listener is not None:
            waiting = [Visitor(channel) for channel in self._listener.take_waiting(seconds)]
        while self._visitors and time.monotonic() - self._visitors[0].came >= seconds:
            waiting.append(self._visitors.popleft())
        for visitor in waiting:
            with closing(visitor.channel), suppress(ChannelError, MessageLate):
                if visitor.said is None:
                    # What lies unread when a connection ends takes the answer with it.
                    visitor.channel.receive(timeout=_FIRST_WORD_SECONDS)
                fields = {"error": StageFailed.__name__, "message": reason}
                visitor.channel.send(Message("refused", fields))

    def meet(self, order: WorkOrder) -> dict[str, Channel]:
        """Channels to all neighbours, by their places.

        Raises:
            StageFailed: one is not reached, or did not come in time.
            InputError: the secret cannot be read.
        """
        with ExitStack() as opened:
            found: dict[str, Channel] = {}
            for neighbour in order.neighbours:
                if neighbour.meeting == "inherit":
                    found[neighbour.place] = self._open(neighbour, order.session)
                    opened.callback(found[neighbour.place].close)
            for neighbour in order.neighbours:
                if neighbour.meeting == "dial":
                    found[neighbour.place] = self._dial(neighbour, order)
                    opened.callback(found[neighbour.place].close)
            awaited = {n.place for n in order.neighbours if n.meeting == "await"}
            while awaited:
                name, channel = self._await(order.session, awaited)
                opened.callback(channel.close)
                awaited.discard(name)
                found[name] = channel
            opened.pop_all()
            return found

    def _open(self, neighbour: Neighbour, session: str) -> Channel:
        identity = replace(self._conditions.identity, plan=session)
        try:
            return open_local(
                self._sockets.pop(neighbour.place), replace(self._conditions, identity=identity)
            )
        except (ChannelError, MessageLate) as error:
            raise _not_met(neighbour.place, error) from error

    def _dial(self, neighbour: Neighbour, order: WorkOrder) -> Channel:
        path = order.options.get("plan_secret")
        secret = self._secret or (read_secret(Path(path)) if path else None)
        if secret is None:
            raise _not_met(neighbour.place, "this worker knows no shared secret")
        address = Address(neighbour.host, neighbour.port)
        try:
            channel = connect_tcp(address, secret, self._conditions)
            channel.send(Message(_INTRODUCTION, {"place": order.place, "session": order.session}))
        except (ChannelError, MessageLate) as error:
            raise _not_met(neighbour.place, error) from error
        return channel

    def _await(self, session: str, awaited: set[str]) -> tuple[str, Channel]:
        """The next neighbour that connects; others are kept for later, or sent away."""
        deadline = self._conditions.deadline()
        missing = ", ".join(sorted(awaited))
        if self._listener is None:
            raise _not_met(missing, "this worker does not listen")
        while True:
            try:
                channel = self._listener.accept(timeout=max(0.0, deadline - time.monotonic()))
            except (ChannelError, MessageLate) as error:
                raise _not_met(missing, error) from error
            try:
                message = channel.receive(timeout=_FIRST_WORD_SECONDS)
            except ChannelError:
                # Whoever looks for a lost device hangs up as soon as it answers.
                channel.close()
                continue
            except MessageLate:
                self._visitors.append(Visitor(channel))
                continue
            name = str(message.fields.get("place"))
            if message.kind != _INTRODUCTION:
                self._visitors.append(Visitor(channel, message))
            elif message.fields.get("session") == session and name in awaited:
                return name, channel
            else:
                # Of an opening that has failed since.
                channel.close()


def _not_met(place: str, reason: object) -> StageFailed:
    return StageFailed(
        f"does not reach the worker of {place} ({reason}); workers connect to each other at the "
        "addresses of plan_workers: give ones that every host of the plan can reach"
    )
