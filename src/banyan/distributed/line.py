"""Bytes on a socket that does not block: as they are, between processes of one host.

Owns `Line`, the protocol, and `PlainLine`. `cipher.SealedLine` is the other variant.
"""

import socket
from collections.abc import Iterable, Iterator
from typing import Protocol

from banyan.distributed.assembler import FrameAssembler
from banyan.distributed.frames import Frame

_BUFFER_BYTES = 256 << 10
_JOINED_BYTES = 64 << 10


class Line(Protocol):
    """What happens to bytes between a frame and a socket."""

    def wrap(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """What goes over the socket for these bytes. What it gives must be sent.

        Args:
            pieces: a tuple if there are few of them, so that they need not be looked at.
        """
        ...

    def read(self, connection: socket.socket, assembler: FrameAssembler) -> list[Frame]:
        """Read once from the socket; the frames that are whole now.

        Raises:
            BlockingIOError: nothing is there.
            EOFError: the other side ended the stream.
            DamagedMessage: what came is no frame, or was changed on the way.
        """
        ...


class PlainLine:
    """Bytes as they are."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    def wrap(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """See `Line`: small pieces are joined, since a call costs more than a copy."""
        return iter(pieces) if isinstance(pieces, tuple) else _joined(pieces)

    def read(self, connection: socket.socket, assembler: FrameAssembler) -> list[Frame]:
        """See `Line`: a long body is read straight to where it belongs."""
        target = assembler.missing_body()
        if target is not None and len(target) >= _BUFFER_BYTES:
            size = connection.recv_into(target)
            if size == 0:
                raise EOFError
            return assembler.fill(size)
        size = connection.recv_into(self._buffer)
        if size == 0:
            raise EOFError
        return assembler.feed(self._buffer[:size])


def _joined(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    joined = bytearray()
    for piece in pieces:
        if len(joined) + len(piece) <= _JOINED_BYTES:
            joined += piece
            continue
        if joined:
            yield memoryview(joined)
            joined = bytearray()
        if len(piece) <= _JOINED_BYTES:
            joined += piece
        else:
            yield piece
    if joined:
        yield memoryview(joined)
