"""A socket that speaks frames and never blocks.

Owns the socket, the numbers of outgoing frames and what is still to be sent. Who may call what at
the same time is the channel's business: one thread writes, one reads.
"""

import contextlib
import fcntl
import select
import socket
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

from banyan.distributed.assembler import FrameAssembler
from banyan.distributed.frames import (
    Beat,
    Credit,
    Frame,
    FrameLimits,
    FrameType,
    Hello,
    MessageHead,
    print_frame,
    print_message,
)
from banyan.distributed.line import Line

# From the kernel's list of states; a connection that was reset is in this one.
_TCP_CLOSED = 7
_NOTHING: Iterator[memoryview] = iter(())


class FramedSocket:
    """Frames out, frames in."""

    def __init__(self, connection: socket.socket, line: Line, limits: FrameLimits) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._line = line
        self._assembler = FrameAssembler(limits)
        self._limits = limits
        self._sequence = 0
        self._under_way: deque[memoryview] = deque()
        self._rest: Iterator[memoryview] = _NOTHING
        self._reading = select.poll()
        self._reading.register(connection.fileno(), select.POLLIN)

    def fileno(self) -> int:
        """The descriptor; -1 after `close`."""
        return self._socket.fileno()

    @property
    def is_inside_frame(self) -> bool:
        """A frame has begun to come and is not whole."""
        return self._assembler.is_inside_frame

    @property
    def waiting_bytes(self) -> int:
        """What was written and the other side has not read (a host) or acknowledged (TCP)."""
        answer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        size: int = struct.unpack("i", answer)[0]
        return size

    def put(self, type: FrameType, head: Hello | Beat | Credit | None) -> None:
        """Line up a small frame behind what is being sent."""
        printed = print_frame(type, self._sequence, head, 0)
        self._sequence += 1
        self._under_way.extend(self._line.wrap((memoryview(printed),)))

    def put_message(
        self,
        head: MessageHead,
        body: Iterable[memoryview] | None = None,
        body_bytes: int = 0,
    ) -> None:
        """Line up a message; the body is read when it is sent.

        Raises:
            InputError: it cannot be printed; nothing happened.
        """
        printed = print_message(head, self._sequence, body_bytes, self._limits)
        self._sequence += 1
        first = memoryview(printed)
        if body is None:
            self._under_way.extend(self._line.wrap((first,)))
        else:
            self._rest = self._line.wrap(chain((first,), body))

    @property
    def is_clear(self) -> bool:
        """All that was lined up is sent."""
        return not self._under_way and self._rest is _NOTHING

    def flush(self) -> bool:
        """Send as much as goes without waiting; whether that was all.

        Raises:
            OSError: the connection is broken.
        """
        under_way = self._under_way
        while True:
            while under_way:
                piece = under_way[0]
                try:
                    sent = self._socket.send(piece)
                except BlockingIOError:
                    return False
                if sent < len(piece):
                    under_way[0] = piece[sent:]
                else:
                    under_way.popleft()
            if self._rest is _NOTHING:
                return True
            next_piece = next(self._rest, None)
            if next_piece is None:
                self._rest = _NOTHING
                return True
            under_way.append(next_piece)

    def keep_rest(self) -> None:
        """Copy what is not sent yet: its memory is the caller's, who may go on and change it."""
        kept = [memoryview(bytes(piece)) for piece in (*self._under_way, *self._rest)]
        self._rest = _NOTHING
        self._under_way = deque(kept)

    def read(self) -> list[Frame]:
        """Read once; see `Line.read`."""
        return self._line.read(self._socket, self._assembler)

    @property
    def is_readable(self) -> bool:
        """`read` finds something, or the end; asking costs a third of a read that finds nothing."""
        return bool(self._reading.poll(0))

    @property
    def is_over(self) -> bool:
        """The other side ended the stream, though what it sent before may lie here unread."""
        return bool(self.wait(select.POLLRDHUP, 0) & (select.POLLRDHUP | select.POLLHUP))

    def wait(self, events: int, seconds: float) -> int:
        """Sleep until the socket is ready for `events` of poll, at most so long; what it is."""
        poller = select.poll()
        poller.register(self._socket.fileno(), events)
        ready = poller.poll(max(0.0, seconds) * 1000)
        return ready[0][1] if ready else 0

    def sleep(self, seconds: float) -> bool:
        """Sleep so long, and less only if something comes in the whole milliseconds of that.

        Poll rounds up to milliseconds, which is too late for who wants to look before that.

        Returns:
            Something came.
        """
        end = time.monotonic() + seconds
        if seconds >= 0.001 and self._reading.poll(int(seconds * 1000)):
            return True
        time.sleep(max(0.0, end - time.monotonic()))
        return False

    def end_stream(self, how: int) -> None:
        """Tell the other side, and whoever sleeps in `wait` here, that it is over."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(how)

    def close_when_taken(self, seconds: float) -> None:
        """Give the descriptor back, but between hosts not before the other one has everything.

        A host that closes while beats of the other one lie unread, or still come, resets the
        connection, and with it what is on its way. So a thread waits, at most so long.
        """
        if self._socket.family == socket.AF_UNIX or not self._is_under_way():
            self._socket.close()
            return
        threading.Thread(
            target=self._linger, args=(seconds,), name="banyan-linger", daemon=True
        ).start()

    def _linger(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._is_under_way() and time.monotonic() < end:
            time.sleep(0.005)
        self._socket.close()

    def _is_under_way(self) -> bool:
        """Something was written that the other host has not acknowledged, and still may."""
        with contextlib.suppress(OSError):
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            return info[0] != _TCP_CLOSED and self.waiting_bytes > 0
        return False

    def close(self) -> None:
        """Give the descriptor back at once."""
        self._socket.close()
