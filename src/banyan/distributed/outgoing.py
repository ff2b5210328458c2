"""How a message is laid out on its way out: in shared memory, or behind its head on the socket.

Owns the writing side of the shared memory and the account of what the other side has given back.
Small arrays go over the socket: two copies of a few kilobytes cost less than the account.
"""

import mmap
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from banyan.distributed.arena import Arena
from banyan.distributed.channel import Array, Message, Reservation
from banyan.distributed.framed_socket import FramedSocket
from banyan.distributed.frames import MessageHead
from banyan.distributed.layout import Layout
from banyan.distributed.shared_memory import READY_BYTES, Loans
from banyan.foundation.errors import InputError

_INLINE_BYTES = 32 << 10
_PATIENCE_SECONDS = 0.0005
_MOST_OWED_BYTES = READY_BYTES // 2


class PlacedReservation(Reservation):
    """Arrays that lie where they are sent.

    Attributes:
        layout: of the arrays.
        owner: whose memory it is.
        offset: where they begin in it; None: there was no room, they are anywhere.
    """

    def __init__(
        self, arrays: Mapping[str, Array], layout: Layout, owner: "Outgoing", offset: int | None
    ) -> None:
        """Made by `Outgoing.reserve` only."""
        super().__init__(arrays)
        self.layout = layout
        self.owner = owner
        self.offset = offset


class Outgoing:
    """Lays out messages; used by one thread at a time, but for `credit`."""

    def __init__(self, memory: mmap.mmap | None = None, loans: Loans | None = None) -> None:
        """Begin.

        Args:
            memory: what this side writes and the other one reads; None: everything goes over
                the socket.
            loans: what the other side writes; credit for it travels with what is sent.
        """
        self._bytes = None if memory is None else np.frombuffer(memory, np.uint8)
        self._arena = Arena(0 if memory is None else len(memory))
        self._loans = loans
        self._credits: deque[int] = deque()
        self._unsaid: list[int] = []

    def release(self) -> None:
        """Give the memory up; nothing is sent any more."""
        self._bytes = None
        self._loans = None
        self._arena = Arena(0)

    @property
    def patience_seconds(self) -> float:
        """How long a sender waits for room in the shared memory before it uses the socket."""
        return _PATIENCE_SECONDS

    def wants_credit(self, size: int) -> bool:
        """A message of this size would go into the shared memory, beyond what is ready there.

        Only then is it worth to read the socket first, and to wait a little for what comes back.
        """
        if not _INLINE_BYTES < size <= self._arena.capacity:
            return False
        while self._credits:
            self._arena.give_back(self._credits.popleft())
        start = self._arena.find(size)
        return start is None or (start > 0 and start + size > READY_BYTES)

    def credit(self, offsets: Sequence[int]) -> None:
        """The other side refers to what began there no more; may be called by any thread."""
        self._credits.extend(offsets)

    def owes_credit(self, *, is_idle: bool) -> bool:
        """There is enough to give back to say so in a frame of its own."""
        if self._loans is None:
            return False
        owed = self._loans.returned_bytes
        return owed > 0 and (is_idle or owed >= min(_MOST_OWED_BYTES, self._loans.size // 4))

    def take_credit(self) -> list[int]:
        """What the other side may use again."""
        due, self._unsaid = self._unsaid, []
        return due if self._loans is None else due + self._loans.take_returned()

    def reserve(self, layout: Layout) -> PlacedReservation:
        """Arrays to write, in the shared memory if there is room."""
        offset = self._place(layout.num_bytes)
        if offset is None or self._bytes is None:
            arrays = {a.name: np.empty(a.shape, a.dtype) for a in layout.arrays}
        else:
            arrays = layout.views(self._bytes, offset)
        return PlacedReservation(arrays, layout, self, offset)

    def give_back(self, reservation: Reservation) -> None:
        """It will not be sent, unless it was."""
        if reservation.is_spent:
            return
        reservation.is_spent = True
        if isinstance(reservation, PlacedReservation) and reservation.owner is self:
            self._free(reservation.offset)

    def _place(self, size: int) -> int | None:
        return self._arena.take(size) if size > _INLINE_BYTES else None

    def _free(self, offset: int | None) -> None:
        if offset is not None:
            self._arena.give_back(offset)

    def line_up(self, framed: FramedSocket, message: Message, layout: Layout) -> None:
        """Hand a message to the socket.

        Args:
            framed: where to; nothing else is under way there.
            message: what to send.
            layout: of its arrays.

        Raises:
            InputError: it cannot be printed; nothing happened.
        """
        size, memory, arrays = layout.num_bytes, self._bytes, message.arrays
        is_here = False
        if isinstance(arrays, PlacedReservation) and arrays.owner is self:
            is_here, offset = True, arrays.offset
        else:
            offset = self._place(size)
        credit = self.take_credit()
        arena_bytes = 0 if offset is None else size
        fields = dict(message.fields)
        head = MessageHead(message.kind, fields, layout.printed, offset, arena_bytes, credit)
        try:
            if offset is None or memory is None:
                framed.put_message(head, _body(message, layout), size)
                return
            framed.put_message(head)
        except InputError:
            if not is_here:
                self._free(offset)
            self._unsaid += credit
            raise
        if is_here:
            return
        # Lined up, not sent: the bytes may follow the head here, since `flush` comes after both.
        views = layout.views(memory, offset)
        for name, array in arrays.items():
            np.copyto(views[name], array)


def _body(message: Message, layout: Layout) -> Iterable[memoryview]:
    """The bytes of all arrays with the gaps between them."""
    end = 0
    for placed, array in zip(layout.arrays, message.arrays.values(), strict=True):
        if placed.offset > end:
            yield memoryview(bytes(placed.offset - end))
        yield _bytes_of(array)
        end = placed.offset + array.nbytes
    if layout.num_bytes > end:
        yield memoryview(bytes(layout.num_bytes - end))


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
