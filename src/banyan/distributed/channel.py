"""A channel: what two workers say to each other, whatever lies between them.

Owns the message and the protocol. Variants: `in_process` (two ends in one process, for tests),
`local` (two processes of one host: shared memory), `tcp` (two hosts:
authenticated and encrypted). All of them keep the order of messages, lose none and repeat none as
long as no `ChannelError` was raised; after one the channel is of no more use.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import InputError

Array: TypeAlias = NDArray[Any]
# Recursive: lists and dictionaries of the same. Integers have at most 64 bits, keys are text.
FieldValue: TypeAlias = (
    "None | bool | int | float | str | bytes | Sequence[FieldValue] | Mapping[str, FieldValue]"
)

Meanwhile: TypeAlias = Callable[[], object]
"""What a sender does while it waits for room; it may read other channels."""

_NO_FIELDS: Mapping[str, FieldValue] = MappingProxyType({})
_NO_ARRAYS: Mapping[str, Array] = MappingProxyType({})


class Message(msgspec.Struct, frozen=True, eq=False):
    """One message. No dataclass, since two of them are made on the way of every message.

    Attributes:
        kind: what it is about ("run", "logits", ...); the two ends agree on the words.
        fields: small values, at most 1 MiB together: numbers, text, bytes, lists and
            dictionaries with text as keys. Tuples arrive as lists.
        arrays: any shapes and any dtypes of `frames.DTYPES`, which has numpy's plain ones,
            bfloat16 and float8. What arrives is C-contiguous and read-only.
    """

    kind: str
    fields: Mapping[str, FieldValue] = _NO_FIELDS
    arrays: Mapping[str, Array] = _NO_ARRAYS


class TypedShape(NamedTuple):
    """What an array will be."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Reservation(dict[str, Array]):
    """Arrays to write what will be sent, by name; see `Channel.reserve`.

    Attributes:
        is_spent: it was sent or given back; its memory may hold other messages by now.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        """Take fresh arrays; write into them, and do not put others in their places."""
        super().__init__(arrays)
        self.is_spent = False

    def check_unspent(self, kind: str) -> None:
        """Whether it may be sent as the arrays of a message of that kind.

        Raises:
            InputError: it is spent.
        """
        if self.is_spent:
            raise InputError(
                f"The arrays of message {kind!r} were sent or given back before; reserve new ones"
                f" for each message."
            )


@dataclass(frozen=True, slots=True)
class PeerPulse:
    """What is known of the process on the other side.

    Attributes:
        silent_seconds: since anything came from it, beats included, as far as this side listened:
            only the time inside `receive` and `send` counts.
        working_seconds: how long it has been outside `receive` on its side when it beat last;
            0 while it waits for a message. A long time here with a short silence is a slow or
            an endless step, not a dead process.
    """

    silent_seconds: float
    working_seconds: float


class Channel(Protocol):
    """One end of a connection. One thread may send while another receives."""

    @property
    def peer(self) -> str:
        """Who is on the other side, in words for a person ("worker 2 (tcp 10.0.0.7:4711)")."""
        ...

    def send(
        self, message: Message, timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> None:
        """Hand a message over; its arrays may be changed as soon as this returns.

        It waits while the other side has no room, and meanwhile takes in what that side sends, so
        that two ends that send to each other never wait for each other.

        Args:
            message: what to say.
            timeout: seconds to wait for room; None: as long as the peer is alive.
            meanwhile: called every few milliseconds while there is no room. Whoever has several
                channels reads the others there: three that send to each other in a circle would
                otherwise wait for each other.

        Raises:
            InputError: the message is too large, holds what cannot be sent, or a reservation that
                is spent.
            MessageLate: no room in that time; nothing of the message was sent.
            ChannelError: the connection is broken or closed.
        """
        ...

    def reserve(self, wanted: Mapping[str, TypedShape]) -> Reservation:
        """Memory to write the arrays of a message in, which then need not be copied to be sent.

        Send them all, once, as the arrays of a message over this channel; over another one they are
        copied like any, and stay reserved. Where both sides share memory they lie there,
        C-contiguous and aligned to 64 bytes, if there is room. What is in them at first is
        arbitrary. Hold few at a time, and do not touch them once they are sent: the memory belongs
        to the receiver then.

        Args:
            wanted: dtype and shape by name, under the limits of `send`.

        Raises:
            InputError: that is too large, or of a dtype that cannot be sent.
            ChannelError: the connection is broken or closed.
        """
        ...

    def give_back(self, reservation: Reservation) -> None:
        """What was reserved here will not be sent; one that was sent already stays so."""
        ...

    def receive(self, timeout: float | None = None) -> Message:
        """The next message, in the order they were sent.

        Arrays may lie in memory that both processes share: they are good for as long as somebody
        refers to them, and the room is given back when nobody does. Do not collect many of them.

        Args:
            timeout: seconds; 0 only looks; None: as long as the peer is alive.

        Raises:
            MessageLate: nothing came in that time and the peer is alive (see `pulse`).
            ChannelError: the connection is broken or closed. What was sent before a `close` is
                received first.
        """
        ...

    @property
    def pulse(self) -> PeerPulse:
        """How the process on the other side is."""
        ...

    def fileno(self) -> int:
        """A descriptor that is readable when `receive` may have something; see `wait_for_any`."""
        ...

    @property
    def has_message(self) -> bool:
        """A message is here already: `receive` returns at once, whatever `fileno` says."""
        ...

    def close(self) -> None:
        """End the connection. The other side still receives what was sent; again: nothing."""
        ...

    @property
    def is_closed(self) -> bool:
        """This end was closed, or broke."""
        ...
