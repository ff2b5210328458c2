"""How a message is laid out on its way out: in shared memory, or behind its head on the socket.

Owns the writing side of the shared memory and the account of what the other side has given back.
Small arrays go over the socket: two copies of a few kilobytes cost less than the account.
"""

import mmap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from msgspec.structs import replace

from banyan.distributed.arena import Arena
from banyan.distributed.channel import Array, Message
from banyan.distributed.framed_socket import FramedSocket
from banyan.distributed.frames import ArrayHead, MessageHead, views
from banyan.distributed.shared_memory import READY_BYTES, Loans
from banyan.foundation.errors import InputError

_INLINE_BYTES = 32 << 10
_PATIENCE_SECONDS = 0.0005
_MOST_OWED_BYTES = READY_BYTES // 2


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

    def credit(self, numbers: Sequence[int]) -> None:
        """The other side refers to these messages no more; may be called by any thread."""
        self._credits.extend(numbers)

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

    def line_up(self, framed: FramedSocket, message: Message, head: MessageHead, size: int) -> None:
        """Hand a message to the socket.

        Args:
            framed: where to; nothing else is under way there.
            message: what to send.
            head: of it, by `describe_message`.
            size: bytes its arrays take, each aligned.

        Raises:
            InputError: it cannot be printed; nothing happened.
        """
        offset = None
        number = framed.next_number
        if size > _INLINE_BYTES:
            offset = self._arena.take(number, size)
        if offset is None or self._bytes is None:
            self._put(framed, head, _body(message, head.arrays, size), size)
            return
        placed = MessageHead(head.kind, head.fields, head.arrays, offset, size)
        try:
            self._put(framed, placed)
        except InputError:
            self._arena.give_back(number)
            raise
        # Lined up, not sent: the bytes may follow the head here, since `flush` comes after both.
        region = self._bytes[offset : offset + size]
        for view, array in zip(views(head.arrays, region), message.arrays.values(), strict=True):
            np.copyto(view, array)

    def _put(
        self,
        framed: FramedSocket,
        head: MessageHead,
        body: Iterable[memoryview] | None = None,
        body_bytes: int = 0,
    ) -> None:
        """Line up the frame, with the credit that is due."""
        credit = self.take_credit()
        if credit:
            head = replace(head, credit=credit)
        try:
            framed.put_message(head, body, body_bytes)
        except InputError:
            self._unsaid += credit
            raise


def _body(message: Message, heads: Sequence[ArrayHead], size: int) -> Iterator[memoryview]:
    """The bytes of all arrays with the gaps between them."""
    end = 0
    for head, array in zip(heads, message.arrays.values(), strict=True):
        if head.offset > end:
            yield memoryview(bytes(head.offset - end))
        yield _bytes_of(array)
        end = head.offset + array.nbytes
    if size > end:
        yield memoryview(bytes(size - end))


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
