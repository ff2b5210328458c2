"""Taking connections.

Owns the listening socket, and one thread for each connection that is being opened: somebody who
connects and says nothing holds up nobody else. What is refused is kept as a sentence for whoever
waits for a worker that does not come.
"""

import contextlib
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from banyan.distributed.stream_channel import StreamChannel
from banyan.foundation.errors import BanyanError, ChannelClosed, MessageLate

_MOST_OPENING = 16
_KEPT_REFUSALS = 16


class Listener:
    """Accepts workers until it is closed. Made by `listen_tcp`."""

    def __init__(
        self, listening: socket.socket, open_one: Callable[[socket.socket, str], StreamChannel]
    ) -> None:
        self._listening = listening
        self._open_one = open_one
        self._opened: queue.SimpleQueue[tuple[float, StreamChannel] | None] = queue.SimpleQueue()
        self._free = threading.Semaphore(_MOST_OPENING)
        self._refusals: deque[str] = deque(maxlen=_KEPT_REFUSALS)
        self._is_closed = False
        self._thread = threading.Thread(target=self._listen, name="banyan-listener", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def refusals(self) -> tuple[str, ...]:
        """The last connections that were refused, each in one sentence."""
        return tuple(self._refusals)

    @property
    def num_waiting(self) -> int:
        """How many are connected and wait for `accept`."""
        return self._opened.qsize()

    def accept(self, timeout: float | None = None) -> StreamChannel:
        """The next worker that connected, is authenticated and fits.

        Raises:
            MessageLate: none came in that time; it names the last one that was refused.
            ChannelClosed: the listener was closed.
        """
        try:
            found = self._opened.get(timeout=timeout)
        except queue.Empty as error:
            last = f" The last one was refused: {self._refusals[-1]}" if self._refusals else ""
            raise MessageLate(f"No worker connected within {timeout} s.{last}") from error
        if found is None:
            self._opened.put(None)
            raise ChannelClosed("The listener was closed.")
        return found[1]

    def take_waiting(self, seconds: float) -> list[StreamChannel]:
        """Those that have waited for `accept` for so long; others go on waiting."""
        latest = time.monotonic() - seconds
        taken = []
        for _ in range(self._opened.qsize()):
            try:
                found = self._opened.get_nowait()
            except queue.Empty:
                break
            if found is not None and found[0] <= latest:
                taken.append(found[1])
            else:
                self._opened.put(found)
        return taken

    def close(self) -> None:
        """Take no more; channels that were accepted stay open, others are closed."""
        if self._is_closed:
            return
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=2.0)
        self._listening.close()
        with contextlib.suppress(queue.Empty):
            while True:
                found = self._opened.get_nowait()
                if found is not None:
                    found[1].close()
        self._opened.put(None)

    def _listen(self) -> None:
        while not self._is_closed:
            try:
                connection, address = self._listening.accept()
            except OSError:
                if self._is_closed:
                    return
                continue
            peer = f"{address[0]}:{address[1]}"
            if not self._free.acquire(blocking=False):
                self._refusals.append(
                    f"{peer} came while {_MOST_OPENING} others were being opened; try again."
                )
                connection.close()
                continue
            threading.Thread(
                target=self._open, args=(connection, peer), name="banyan-opening", daemon=True
            ).start()

    def _open(self, connection: socket.socket, peer: str) -> None:
        try:
            channel = self._open_one(connection, peer)
            if self._is_closed:
                channel.close()
            else:
                self._opened.put((time.monotonic(), channel))
        except (BanyanError, OSError) as error:
            self._refusals.append(str(error))
            connection.close()
        finally:
            self._free.release()
