"""A channel between two ends in one process: for tests.

Owns `channel_pair`. Arrays are copied on the way, as on any other channel, so that a stage that
changes its own arrays after sending works here exactly if it works between processes.
"""

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping

import numpy as np

from banyan.distributed.channel import Array, Meanwhile, Message, PeerPulse, Reservation, TypedShape
from banyan.foundation.errors import ChannelClosed, InputError, MessageLate

_MEANWHILE_SECONDS = 0.002


class _Line:
    """One direction: messages on their way, and a descriptor that is readable while there are."""

    def __init__(self, capacity: int) -> None:
        self.changed = threading.Condition()
        self.capacity = capacity
        self.messages: deque[Message] = deque()
        self.is_closed = False
        self.reader_is_gone = False
        self.readable, self._signal = socket.socketpair()
        self.readable.setblocking(False)
        self._signal.setblocking(False)

    def raise_signal(self) -> None:
        """Make the descriptor readable; one byte stays in it as long as something is here."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._signal.send(b"1")

    def lower_signal(self) -> None:
        """Nothing is left: the descriptor is not readable any more."""
        with contextlib.suppress(BlockingIOError, OSError):
            while self.readable.recv(4096):
                pass

    def free(self) -> None:
        """Give the descriptors back."""
        self.readable.close()
        self._signal.close()


class InProcessChannel:
    """One end of a pair. Made by `channel_pair` only."""

    def __init__(self, name: str, peer: str, outgoing: _Line, incoming: _Line) -> None:
        self._name = name
        self._peer = peer
        self._outgoing = outgoing
        self._incoming = incoming
        self._is_closed = False
        self._busy_since: float | None = time.monotonic()
        self.other: InProcessChannel | None = None

    @property
    def peer(self) -> str:
        """Who is on the other side."""
        return f"{self._peer} (this process)"

    @property
    def is_closed(self) -> bool:
        """This end was closed."""
        return self._is_closed

    @property
    def has_message(self) -> bool:
        """A message is here already."""
        return bool(self._incoming.messages)

    @property
    def pulse(self) -> PeerPulse:
        """It is never silent: it is this process."""
        since = None if self.other is None else self.other._busy_since
        return PeerPulse(0.0, 0.0 if since is None else time.monotonic() - since)

    def fileno(self) -> int:
        """Readable when a message is here or the other end closed."""
        return self._incoming.readable.fileno()

    def send(
        self, message: Message, timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> None:
        """See `Channel.send`."""
        if meanwhile is not None:
            self._pass_time(timeout, meanwhile)
        arrays = message.arrays
        if isinstance(arrays, Reservation):
            arrays.check_unspent(message.kind)
        copied = Message(message.kind, dict(message.fields), _copies(message))
        line = self._outgoing
        with line.changed:
            self._check_open()
            has_room = line.changed.wait_for(
                lambda: len(line.messages) < line.capacity or line.reader_is_gone or line.is_closed,
                timeout,
            )
            if line.reader_is_gone or line.is_closed:
                raise ChannelClosed(f"{self.peer} closed its end, so {message.kind!r} cannot go.")
            if not has_room:
                raise MessageLate(
                    f"{self.peer} took none of {line.capacity} messages within {timeout} s."
                )
            line.messages.append(copied)
            if isinstance(arrays, Reservation):
                arrays.is_spent = True
            line.raise_signal()
            line.changed.notify_all()

    def _pass_time(self, timeout: float | None, meanwhile: Meanwhile) -> None:
        """Do something else while there is no room, at most for so long."""
        line = self._outgoing
        until = None if timeout is None else time.monotonic() + timeout
        while len(line.messages) >= line.capacity and not line.is_closed:
            if until is not None and time.monotonic() >= until:
                return
            meanwhile()
            time.sleep(_MEANWHILE_SECONDS)

    def reserve(self, wanted: Mapping[str, TypedShape]) -> Reservation:
        """See `Channel.reserve`: arrays that are copied when they are sent."""
        with self._outgoing.changed:
            self._check_open()
        return Reservation({name: np.empty(of.shape, of.dtype) for name, of in wanted.items()})

    def give_back(self, reservation: Reservation) -> None:
        """See `Channel.give_back`."""
        reservation.is_spent = True

    def receive(self, timeout: float | None = None) -> Message:
        """See `Channel.receive`."""
        line = self._incoming
        self._busy_since = None
        try:
            with line.changed:
                self._check_open()
                line.changed.wait_for(lambda: line.messages or line.is_closed, timeout)
                if line.messages:
                    return self._take(line)
                if line.is_closed:
                    self._check_open()
                    raise ChannelClosed(f"{self.peer} closed the connection.")
        finally:
            self._busy_since = time.monotonic()
        raise MessageLate(f"{self.peer} sent nothing within {timeout} s.")

    def _take(self, line: _Line) -> Message:
        message = line.messages.popleft()
        if not line.messages and not line.is_closed:
            line.lower_signal()
        line.changed.notify_all()
        return message

    def _check_open(self) -> None:
        if self._is_closed:
            raise ChannelClosed(f"The connection to {self.peer} was closed on this side.")

    def close(self) -> None:
        """See `Channel.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        with self._outgoing.changed:
            self._outgoing.is_closed = True
            self._outgoing.raise_signal()
            self._outgoing.changed.notify_all()
        with self._incoming.changed:
            self._incoming.reader_is_gone = True
            self._incoming.is_closed = True
            self._incoming.changed.notify_all()
        if self.other is not None and self.other.is_closed:
            self._outgoing.free()
            self._incoming.free()


def _copies(message: Message) -> dict[str, Array]:
    copies = {}
    for name, array in message.arrays.items():
        if array.dtype.hasobject:
            raise InputError(f"Array {name!r} of {message.kind!r} holds Python objects.")
        copy = np.array(array, order="C", copy=True)
        copy.flags.writeable = False
        copies[name] = copy
    return copies


def channel_pair(
    first: str = "first", second: str = "second", *, capacity: int = 64
) -> tuple[InProcessChannel, InProcessChannel]:
    """Two ends that talk to each other.

    Args:
        first: what the second end calls the first.
        second: what the first end calls the second.
        capacity: messages on their way in one direction before `send` waits.
    """
    there, back = _Line(capacity), _Line(capacity)
    one = InProcessChannel(first, second, there, back)
    two = InProcessChannel(second, first, back, there)
    one.other, two.other = two, one
    return one, two
