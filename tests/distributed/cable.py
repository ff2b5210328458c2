"""A cable between two ends of TCP that a test may cut, mend, listen to and disturb."""

import contextlib
import select
import socket
import threading
from types import TracebackType

from banyan.distributed.tcp import Address


class Cable:
    """Carries bytes from whoever connects to `address` on to a listener."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._server.getsockname()[1])
        self._lock = threading.Lock()
        self._is_cut = False
        self._is_over = False
        self._seen = bytearray()
        self._flip: int | None = None
        self._end_after: int | None = None
        self._sockets: list[socket.socket] = [self._server]
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Cable":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        self._thread.join(10)
        for each in self._sockets:
            each.close()

    def cut(self) -> None:
        """From now on nothing arrives, and nobody is told."""
        self._is_cut = True

    def mend(self) -> None:
        """New connections work; those from before stay dead, as after a change of addresses."""
        with self._lock:
            self._sockets, old = [self._server], self._sockets[1:]
        for each in old:
            each.close()
        self._is_cut = False

    def flip(self, place: int) -> None:
        """Change the byte that is so many away from now, towards the listener."""
        with self._lock:
            self._flip = len(self._seen) + place

    def end_after(self, size: int) -> None:
        """End the connection after so many bytes towards the listener."""
        self._end_after = size

    def seen(self) -> bytes:
        """All that went towards the listener."""
        return bytes(self._seen)

    def _run(self) -> None:
        pairs: dict[int, tuple[socket.socket, socket.socket, bool]] = {}
        while not self._is_over:
            with self._lock:
                sockets = [each for each in self._sockets if each.fileno() >= 0]
            readable, _, _ = select.select([] if self._is_cut else sockets, [], [], 0.01)
            for each in readable:
                with contextlib.suppress(OSError):
                    if each is self._server:
                        self._accept(pairs)
                    elif each.fileno() in pairs:
                        # The other end of a pair may just have been closed.
                        self._carry(*pairs[each.fileno()])

    def _accept(self, pairs: dict[int, tuple[socket.socket, socket.socket, bool]]) -> None:
        near, _ = self._server.accept()
        far = socket.create_connection((self._target.host, self._target.port))
        pairs[near.fileno()] = (near, far, True)
        pairs[far.fileno()] = (far, near, False)
        with self._lock:
            self._sockets += [near, far]

    def _carry(self, source: socket.socket, target: socket.socket, is_forth: bool) -> None:
        data = bytearray(source.recv(1 << 16))
        if is_forth and data:
            data = self._disturb(data)
        if data:
            target.sendall(data)
        if not data or self._is_at_end():
            with self._lock:
                self._sockets = [s for s in self._sockets if s not in (source, target)]
            source.close()
            target.close()

    def _is_at_end(self) -> bool:
        return self._end_after is not None and len(self._seen) >= self._end_after

    def _disturb(self, data: bytearray) -> bytearray:
        start = len(self._seen)
        with self._lock:
            if self._flip is not None and start <= self._flip < start + len(data):
                data[self._flip - start] ^= 0x10
                self._flip = None
            if self._end_after is not None:
                data = data[: self._end_after - start]
            self._seen += data
        return data
