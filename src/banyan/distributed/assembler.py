"""From a stream of bytes, in whatever pieces it comes, to whole frames. Pure.

Owns `FrameAssembler`. It is fed by a channel and raises on the first byte that cannot be right;
after that the stream is lost, since nothing tells where the next frame begins.
"""

import ctypes
from typing import Any

import numpy as np

from banyan.distributed.frames import (
    ALIGNMENT,
    PREFIX_BYTES,
    Frame,
    FrameLimits,
    Prefix,
    check_head,
    read_prefix,
)
from banyan.foundation.errors import DamagedMessage

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class FrameAssembler:
    """Takes pieces of a stream and gives frames, in order, none missing, none twice."""

    def __init__(self, limits: FrameLimits) -> None:
        self._limits = limits
        self._begun = bytearray()
        self._open: tuple[Prefix, bytes, Bytes] | None = None
        self._filled = 0
        self._next = 0

    @property
    def is_inside_frame(self) -> bool:
        """A frame has begun and not ended: a stream that ends now was cut short."""
        return bool(self._begun) or self._open is not None

    def missing_body(self) -> memoryview | None:
        """Where the rest of the body under way belongs, for reading straight into it; or None."""
        if self._open is None:
            return None
        return self._open[2].data[self._filled :]

    def fill(self, size: int) -> list[Frame]:
        """So many bytes were written to `missing_body`; the frame if that completes it."""
        assert self._open is not None, "no body is under way"
        prefix, head, body = self._open
        self._filled += size
        if self._filled < len(body):
            return []
        self._open = None
        return [Frame(prefix, head, body)]

    def feed(self, data: memoryview) -> list[Frame]:
        """Take a piece of the stream; the frames that are whole now.

        Raises:
            DamagedMessage: these bytes are no frame, too large, out of order or damaged.
            PeerRefused: they are of another protocol.
        """
        frames: list[Frame] = []
        while len(data):
            target = self.missing_body()
            if target is not None:
                size = min(len(target), len(data))
                target[:size] = data[:size]
                data = data[size:]
                frames += self.fill(size)
            else:
                data = self._begin(data, frames)
        return frames

    def _begin(self, data: memoryview, frames: list[Frame]) -> memoryview:
        """Read a prefix and head from what came before and `data`; the rest of `data`."""
        if not self._begun and len(data) >= PREFIX_BYTES:
            prefix = read_prefix(data, self._limits)
            end = PREFIX_BYTES + prefix.head_bytes
            if len(data) >= end + prefix.body_bytes:
                head = self._check(prefix, data[:end])
                stop = end + prefix.body_bytes
                body = None
                if stop > end:
                    body = aligned_bytes(prefix.body_bytes)
                    body.data[:] = data[end:stop]
                frames.append(Frame(prefix, head, body))
                return data[stop:]
            if len(data) >= end:
                self._open_frame(prefix, data[:end], frames)
                return data[end:]
        size = self._missing_head()
        self._begun += data[:size]
        if len(self._begun) >= PREFIX_BYTES and not self._missing_head():
            whole = memoryview(bytes(self._begun))
            self._begun.clear()
            self._open_frame(read_prefix(whole, self._limits), whole, frames)
        return data[size:]

    def _missing_head(self) -> int:
        if len(self._begun) < PREFIX_BYTES:
            return PREFIX_BYTES - len(self._begun)
        prefix = read_prefix(self._begun, self._limits)
        return PREFIX_BYTES + prefix.head_bytes - len(self._begun)

    def _open_frame(self, prefix: Prefix, start: memoryview, frames: list[Frame]) -> None:
        head = self._check(prefix, start)
        if prefix.body_bytes == 0:
            frames.append(Frame(prefix, head, None))
            return
        self._open = (prefix, head, aligned_bytes(prefix.body_bytes))
        self._filled = 0

    def _check(self, prefix: Prefix, start: memoryview) -> bytes:
        """The head, when its checksum fits and it is the next one."""
        head = bytes(start[PREFIX_BYTES:])
        check_head(prefix, start, head)
        if prefix.sequence != self._next:
            raise DamagedMessage(
                f"Frame {prefix.sequence} came where frame {self._next} was due; one is missing"
                f" or came twice."
            )
        self._next += 1
        return head


def aligned_bytes(size: int) -> Bytes:
    """Fresh memory that begins at a multiple of `ALIGNMENT`; vector loads of kernels want that."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    # Half of what `memory.ctypes.data` takes, and this is done for every small message.
    start = -ctypes.addressof(ctypes.c_char.from_buffer(memory.data)) % ALIGNMENT
    return memory[start : start + size]
