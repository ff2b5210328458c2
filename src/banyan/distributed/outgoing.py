"""How a message is laid out on its way out: in shared memory, or behind its head on the socket.

Owns the writing side of the shared memory and the account of what the other side has given back.
Small arrays go over the socket: two copies of a few kilobytes cost less than the account.
"""

import mmap
import socket
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

import numpy as np

from banyan.distributed.arena import Arena
from banyan.distributed.channel import Array, Message, Reservation
from banyan.distributed.framed_socket import FramedSocket
from banyan.distributed.frames import MessageHead
from banyan.distributed.layout import Layout
from banyan.distributed.shared_memory import READY_BYTES, Loans
from banyan.distributed.words import MOST_CREDITS, WORD_BYTES, SpokenWords
from banyan.foundation.errors import InputError

_INLINE_BYTES = 32 << 10
# Of these a reader that waits learns while they are still being copied, and has read the head when
# they are there. Below, the copy is too short for that; above, it would look in vain for too long.
_EARLY_BYTES = range(128 << 10, (2 << 20) + 1)
# Places in use when the reader has nothing else to read.
_WORDS_AND_THIS = 2
# Places that were given back are looked for when this much of the memory is taken: not every time,
# and before what is written leaves the caches.
_WARM_BYTES = 2 << 20
_MOST_VIEWS = 64
# The C library copies what is smaller than the second cache by one instruction, and more by a loop
# that takes a sixth longer (glibc 2.36 on Zen 5); where it does not, pieces cost nothing.
_PIECE_BYTES = 512 << 10
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

    def __init__(
        self,
        memory: mmap.mmap | None = None,
        loans: Loans | None = None,
        spoken: SpokenWords | None = None,
    ) -> None:
        """Begin.

        Args:
            memory: what this side writes and the other one reads; None: everything goes over
                the socket.
            loans: what the other side writes; credit for it is given in words, or travels with
                what is sent.
            spoken: words at the beginning of `memory`; None: this processor cannot.
        """
        self._bytes = None if memory is None else np.frombuffer(memory, np.uint8)
        self._arena = Arena(0 if memory is None else len(memory))
        if memory is not None:
            self._arena.take(WORD_BYTES)
        self._spoken = spoken
        self._num_early = 0
        self._views: dict[tuple[Layout, int], Mapping[str, Array]] = {}
        self._loans = loans
        self._credits: deque[int] = deque()
        self._unsaid: list[int] = []

    def release(self) -> None:
        """Give the memory up; nothing is sent any more."""
        self._bytes = None
        self._views = {}
        self._spoken = None
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
        if size not in _EARLY_BYTES:
            start = self._arena.find(size)
            if start is not None and start + size <= _WARM_BYTES:
                return False
        while self._credits:
            self._arena.give_back(self._credits.popleft())
        if self._loans is not None:
            for offset in self._loans.heard.take_credit():
                self._arena.give_back(offset)
        start = self._arena.find(size)
        return start is None or (start > WORD_BYTES and start + size > READY_BYTES)

    def credit(self, offsets: Sequence[int]) -> None:
        """The other side refers to what began there no more; may be called by any thread."""
        self._credits.extend(offsets)

    def owes_credit(self, *, is_idle: bool) -> bool:
        """There is enough to give back to say so, in words or in a frame of its own."""
        if self._loans is None:
            return False
        owed = self._loans.returned_bytes
        return owed > 0 and (
            self._spoken is not None
            or is_idle
            or owed >= min(_MOST_OWED_BYTES, self._loans.size // 4)
        )

    def take_credit(self) -> list[int]:
        """What the other side may use again and was not told in words here and now."""
        if self._loans is None:
            return []
        if self._spoken is not None:
            if self._loans.returned_bytes:
                self._spoken.give_credit(self._loans.take_returned())
            return []
        due, self._unsaid = self._unsaid, []
        return due + self._loans.take_returned()

    def reserve(self, layout: Layout) -> PlacedReservation:
        """Arrays to write, in the shared memory if there is room."""
        offset = self._place(layout.num_bytes)
        if offset is None or self._bytes is None:
            arrays: Mapping[str, Array] = {
                a.name: np.empty(a.shape, a.dtype) for a in layout.arrays
            }
        else:
            arrays = self._views_at(layout, offset)
        return PlacedReservation(arrays, layout, self, offset)

    def give_back(self, reservation: Reservation) -> None:
        """It will not be sent, unless it was."""
        if self._is_own(reservation) and not reservation.is_spent:
            reservation.is_spent = True
            self._free(reservation.offset)

    def _is_own(self, arrays: Mapping[str, Array]) -> TypeGuard[PlacedReservation]:
        """Reserved here; what was reserved elsewhere stays so, whatever is done with it here."""
        return isinstance(arrays, PlacedReservation) and arrays.owner is self

    def _place(self, size: int) -> int | None:
        if size <= _INLINE_BYTES or self._arena.num_taken > MOST_CREDITS:
            return None
        return self._arena.take(size)

    def _free(self, offset: int | None) -> None:
        if offset is not None:
            self._arena.give_back(offset)

    def send(self, framed: FramedSocket, message: Message, layout: Layout) -> bool:
        """Hand a message to the socket; whether all of it went.

        Args:
            framed: where to; nothing else is under way there.
            message: what to send.
            layout: of its arrays.

        Raises:
            InputError: it cannot be printed; nothing happened.
            OSError: the connection is broken.
        """
        size, arrays = layout.num_bytes, message.arrays
        own = arrays if self._is_own(arrays) else None
        offset = self._place(size) if own is None else own.offset
        views = None if offset is None or own is not None else self._views_at(layout, offset)
        early, spoken = 0, self._spoken
        if views is not None:
            is_alone = self._arena.num_taken == _WORDS_AND_THIS
            if spoken is not None and is_alone and size in _EARLY_BYTES:
                early = self._num_early = self._num_early + 1
        credit = self.take_credit()
        arena_bytes = 0 if offset is None else size
        fields = message.fields if type(message.fields) is dict else dict(message.fields)
        head = MessageHead(message.kind, fields, layout.printed, offset, arena_bytes, credit, early)
        try:
            if offset is None:
                framed.put_message(head, _body(message, layout), size)
            else:
                framed.put_message(head)
        except InputError:
            if own is None:
                self._free(offset)
            self._unsaid += credit
            raise
        if own is not None:
            own.is_spent = True
        if views is None:
            return framed.flush()
        is_sent = _write(framed, arrays, views, is_early=early > 0)
        if early and spoken is not None:
            spoken.say_written(early)
        return is_sent

    def _views_at(self, layout: Layout, offset: int) -> Mapping[str, Array]:
        """Arrays in the memory; nearly every message lies where one like it lay before."""
        key = layout, offset
        views = self._views.get(key)
        if views is None:
            assert self._bytes is not None, "a place is in the memory"
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            views = self._views[key] = layout.views(self._bytes, offset)
        return views


def _write(
    framed: FramedSocket, arrays: Mapping[str, Array], views: Mapping[str, Array], *, is_early: bool
) -> bool:
    """Write the arrays of a head that is lined up, and send that, early or behind them.

    It was printed before: a long copy drives what that takes out of the caches. Nothing here waits
    for anybody. Returns whether all went.
    """
    try:
        is_sent = is_early and framed.flush()
        _copy(arrays, views)
        return is_sent if is_early else framed.flush()
    except BaseException:
        # The reader would take what is half written, or look for ever for what nobody writes.
        framed.end_stream(socket.SHUT_RDWR)
        raise


def _copy(arrays: Mapping[str, Array], views: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        if array.nbytes > _PIECE_BYTES and array.flags.c_contiguous:
            _copy_in_pieces(array.reshape(-1), views[name].reshape(-1))
        else:
            np.copyto(views[name], array)


def _copy_in_pieces(source: Array, target: Array) -> None:
    step = _PIECE_BYTES // source.itemsize
    for start in range(0, len(source), step):
        end = start + step
        np.copyto(target[start:end], source[start:end])


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
