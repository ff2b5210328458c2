"""How workers of a plan get their channels to each other.

Called by a worker when the engine says "meet", after all workers have compiled. Sockets that two
were started with are opened in the order of their pairs, so that no circle of workers waits; a
connection over TCP is taken by a thread of the other side's listener.
"""

import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from banyan.distributed.channel import Channel, Message
from banyan.distributed.listener import Listener
from banyan.distributed.local import open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.secret import SharedSecret
from banyan.distributed.tcp import Address, connect_tcp
from banyan.engine.stages.addresses import Neighbour
from banyan.foundation.errors import ChannelError, MessageLate, StageFailed

_INTRODUCTION = "neighbour"


class Meeting:
    """Connects one worker to its neighbours.

    Attributes:
        visitors: channels of others than neighbours that came to the listener meanwhile, with
            what they said first; an engine among them is served later.
    """

    def __init__(
        self,
        conditions: Conditions,
        *,
        sockets: Mapping[str, int] | None = None,
        listener: Listener | None = None,
    ) -> None:
        """Take the ways there are.

        Args:
            conditions: of this worker's channels.
            sockets: neighbour of this host -> descriptor of a socket to it.
            listener: where neighbours connect.
        """
        self._conditions = conditions
        self._sockets = dict(sockets or {})
        self._listener = listener
        self.visitors: deque[tuple[Channel, Message]] = deque()

    def meet(
        self,
        place: str,
        session: str,
        neighbours: tuple[Neighbour, ...],
        secret: SharedSecret | None,
    ) -> dict[str, Channel]:
        """Channels to all neighbours, by their places.

        Raises:
            StageFailed: one is not reached, or did not come in time.
        """
        with ExitStack() as opened:
            found: dict[str, Channel] = {}

            def keep(name: str, channel: Channel) -> None:
                opened.callback(channel.close)
                found[name] = channel

            for neighbour in neighbours:
                if neighbour.meeting == "inherit":
                    keep(neighbour.place, self._open(neighbour, session))
            for neighbour in neighbours:
                if neighbour.meeting == "dial":
                    keep(neighbour.place, self._dial(neighbour, secret))
                    found[neighbour.place].send(
                        Message(_INTRODUCTION, {"place": place, "session": session})
                    )
            awaited = {n.place for n in neighbours if n.meeting == "await"}
            while awaited:
                name, channel = self._await(session, awaited)
                awaited.discard(name)
                keep(name, channel)
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

    def _dial(self, neighbour: Neighbour, secret: SharedSecret | None) -> Channel:
        address = Address(neighbour.host, neighbour.port)
        if secret is None:
            raise _not_met(neighbour.place, "this worker knows no shared secret")
        try:
            return connect_tcp(address, secret, self._conditions)
        except (ChannelError, MessageLate) as error:
            raise _not_met(neighbour.place, error) from error

    def _await(self, session: str, awaited: set[str]) -> tuple[str, Channel]:
        """The next neighbour that connects; others are kept for later, or sent away."""
        deadline = self._conditions.deadline()
        missing = ", ".join(sorted(awaited))
        if self._listener is None:
            raise _not_met(missing, "this worker does not listen")
        while True:
            try:
                channel = self._listener.accept(timeout=max(0.0, deadline - time.monotonic()))
                message = channel.receive(timeout=max(0.0, deadline - time.monotonic()))
            except (ChannelError, MessageLate) as error:
                raise _not_met(missing, error) from error
            name = str(message.fields.get("place"))
            if message.kind != _INTRODUCTION:
                self.visitors.append((channel, message))
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
