"""Bytes on a socket between two hosts: in records, each encrypted and authenticated.

Owns `SealedLine`. A record is its length in two bytes (big-endian) and the transport message of
the Noise framework (section 5.1, 12.2): AES-256 in Galois/counter mode with 16 bytes of tag, under
a number that counts the records of one direction. A record that was changed, left out, sent again
or put elsewhere does not open.
"""

import socket
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from banyan.distributed.assembler import FrameAssembler
from banyan.distributed.frames import Frame
from banyan.foundation.errors import DamagedMessage

_TAG_BYTES = 16
_LENGTH_BYTES = 2
# The framework's limit of a message.
_RECORD_BYTES = 65535
_PLAIN_BYTES = _RECORD_BYTES - _TAG_BYTES
_BUFFER_BYTES = 8 * (_RECORD_BYTES + _LENGTH_BYTES)


class SealedLine:
    """Encrypts what goes out and opens what comes in."""

    def __init__(self, sending_key: bytes, receiving_key: bytes) -> None:
        self._sealer = AESGCM(sending_key)
        self._opener = AESGCM(receiving_key)
        self._sealed = 0
        self._opened = 0
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._filled = 0

    def wrap(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """See `Line`: small pieces share a record."""
        joined = bytearray()
        for piece in pieces:
            rest = piece
            while len(rest):
                if not joined and len(rest) >= _PLAIN_BYTES:
                    yield self._seal(rest[:_PLAIN_BYTES])
                    rest = rest[_PLAIN_BYTES:]
                    continue
                size = min(len(rest), _PLAIN_BYTES - len(joined))
                joined += rest[:size]
                rest = rest[size:]
                if len(joined) == _PLAIN_BYTES:
                    yield self._seal(joined)
                    joined = bytearray()
        if joined:
            yield self._seal(joined)

    def _seal(self, plain: memoryview | bytearray) -> memoryview:
        size = len(plain) + _TAG_BYTES
        record = memoryview(bytearray(_LENGTH_BYTES + size))
        record[:_LENGTH_BYTES] = size.to_bytes(_LENGTH_BYTES, "big")
        self._sealer.encrypt_into(_nonce(self._sealed), plain, None, record[_LENGTH_BYTES:])
        self._sealed += 1
        return record

    def read(self, connection: socket.socket, assembler: FrameAssembler) -> list[Frame]:
        """See `Line`."""
        size = connection.recv_into(self._buffer[self._filled :])
        if size == 0:
            raise EOFError
        self._filled += size
        frames: list[Frame] = []
        start = 0
        while self._filled - start > _LENGTH_BYTES:
            size = int.from_bytes(self._buffer[start : start + _LENGTH_BYTES], "big")
            end = start + _LENGTH_BYTES + size
            if size <= _TAG_BYTES:
                raise DamagedMessage(f"A record of {size} bytes came; none has so few.")
            if end > self._filled:
                break
            frames += self._open(self._buffer[start + _LENGTH_BYTES : end], assembler)
            start = end
        if start:
            rest = self._filled - start
            self._buffer[:rest] = self._buffer[start : self._filled]
            self._filled = rest
        return frames

    def _open(self, record: memoryview, assembler: FrameAssembler) -> list[Frame]:
        """Open a record, straight into the body under way if it is all of that."""
        size = len(record) - _TAG_BYTES
        nonce = _nonce(self._opened)
        self._opened += 1
        target = assembler.missing_body()
        try:
            if target is not None and len(target) >= size:
                self._opener.decrypt_into(nonce, record, None, target[:size])
                return assembler.fill(size)
            return assembler.feed(memoryview(self._opener.decrypt(nonce, record, None)))
        except InvalidTag as error:
            raise DamagedMessage(
                f"Record {self._opened - 1} does not open: it was changed on the way, or sent by"
                f" somebody else."
            ) from error


def _nonce(number: int) -> bytes:
    return b"\0\0\0\0" + number.to_bytes(8, "big")
