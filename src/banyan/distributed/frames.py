"""The form of a frame: what every byte between two workers means. Pure.

Owns printing and reading. A frame is a prefix of 32 bytes, a head in MessagePack and a body of raw
bytes:

    offset  bytes  what
         0      4  "BNYN"
         4      1  protocol number
         5      1  type of the frame (`FrameType`)
         6      2  zero
         8      8  sequence number of this direction, from 0; no frame is left out or comes twice
        16      4  bytes of the head
        20      8  bytes of the body
        28      4  CRC-32 of the 28 bytes before and the head

All numbers are little-endian. The body has no checksum here: between processes of one host it never
leaves memory, between hosts every record carries an authentication tag (`cipher`).
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import ml_dtypes
import msgspec
import numpy as np

from banyan.foundation.errors import DamagedMessage, InputError, PeerRefused

PROTOCOL = 2
PREFIX_BYTES = 32
ALIGNMENT = 64

_MAGIC = b"BNYN"
_PREFIX = struct.Struct("<4sBBHQIQ")
_CHECKSUM = struct.Struct("<I")

DTYPES: Mapping[str, np.dtype[Any]] = {
    **{
        name: np.dtype(name)
        for name in (
            *("bool", "int8", "int16", "int32", "int64"),
            *("uint8", "uint16", "uint32", "uint64"),
            *("float16", "float32", "float64", "complex64", "complex128"),
        )
    },
    **{
        name: np.dtype(getattr(ml_dtypes, name))
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")
    },
}


class FrameType(IntEnum):
    """What a frame is for."""

    HELLO = 1
    MESSAGE = 2
    BEAT = 3
    CREDIT = 4
    GOODBYE = 5


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """What is not read, whoever sends it.

    Attributes:
        head_bytes: of kind, fields and the list of arrays, in MessagePack.
        body_bytes: of all arrays of a message together.
        arrays: of one message.
    """

    head_bytes: int = 1 << 20
    body_bytes: int = 8 << 30
    arrays: int = 4096


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame of both sides.

    Attributes:
        name: who speaks.
        version: of its Banyan.
        plan: fingerprint of the plan it carries out; None: it follows none yet.
        beat_seconds: how often it beats.
        arena_bytes: size of the memory it shares and sends arrays in; 0: none.
    """

    name: str
    version: str
    plan: str | None = None
    beat_seconds: float
    arena_bytes: int = 0


class Beat(msgspec.Struct, frozen=True, array_like=True):
    """I am alive, and have been outside `receive` for so long."""

    working_seconds: float


class Credit(msgspec.Struct, frozen=True, array_like=True):
    """Nobody refers to the arrays any more that began here in the arena; their room is free."""

    offsets: list[int]


class ArrayHead(msgspec.Struct, frozen=True, array_like=True):
    """One array; its bytes begin `offset` into the body or into the message's part of the arena."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class MessageHead(msgspec.Struct, frozen=True, array_like=True):
    """A message without the bytes of its arrays.

    Attributes:
        kind: see `Message`.
        fields: see `Message`.
        arrays: a list of `ArrayHead`, printed: where each lies (`layout`).
        arena_offset: where its arrays begin in the sender's arena; None: in the body.
        arena_bytes: how many bytes they take there.
        credit: as in `Credit`, so that an answer needs no second frame.
        unfinished: 0: the arrays are written; otherwise they are once `HeardWords.written` is at
            least this.
    """

    kind: str
    fields: dict[str, Any]
    arrays: msgspec.Raw
    arena_offset: int | None = None
    arena_bytes: int = 0
    credit: list[int] = []
    unfinished: int = 0


class Prefix(msgspec.Struct, frozen=True, gc=False):
    """The first 32 bytes, read; `checksum` is not compared yet, for it covers the head, too.

    Like `Frame` no dataclass, since these are made for every message and cost a third of one.
    """

    type: FrameType
    sequence: int
    head_bytes: int
    body_bytes: int
    checksum: int


class Frame(msgspec.Struct, frozen=True, eq=False):
    """A whole frame: its head still in MessagePack, and checked."""

    prefix: Prefix
    head: bytes
    body: np.ndarray[Any, np.dtype[np.uint8]] | None


_FRAME_TYPES = {int(kind): kind for kind in FrameType}
_ENCODER = msgspec.msgpack.Encoder()
_MESSAGE_DECODER = msgspec.msgpack.Decoder(MessageHead)
_ARRAYS_DECODER = msgspec.msgpack.Decoder(list[ArrayHead])
_HELLO_DECODER = msgspec.msgpack.Decoder(Hello)
_BEAT_DECODER = msgspec.msgpack.Decoder(Beat)
_CREDIT_DECODER = msgspec.msgpack.Decoder(Credit)


def print_frame(
    type: FrameType,
    sequence: int,
    head: Hello | Beat | Credit | MessageHead | None,
    body_bytes: int,
) -> bytes:
    """The prefix and the head of a frame; its body, if it has one, follows on the line."""
    return _framed(type, sequence, b"" if head is None else _ENCODER.encode(head), body_bytes)


def _framed(type: FrameType, sequence: int, printed: bytes, body_bytes: int) -> bytes:
    prefix = _PREFIX.pack(_MAGIC, PROTOCOL, type, 0, sequence, len(printed), body_bytes)
    return prefix + _CHECKSUM.pack(zlib.crc32(printed, zlib.crc32(prefix))) + printed


def print_arrays(arrays: Sequence[ArrayHead]) -> msgspec.Raw:
    """The list of arrays as the head of a message has it."""
    return msgspec.Raw(_ENCODER.encode(arrays))


def print_message(head: MessageHead, sequence: int, body_bytes: int, limits: FrameLimits) -> bytes:
    """The prefix and the head of a message.

    Raises:
        InputError: a field is of a type, or an integer of a size, that MessagePack does not have,
            or all of them together are too long.
    """
    try:
        printed = _ENCODER.encode(head)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(
            f"The fields of message {head.kind!r} cannot be sent: {error}; sent are numbers of 64"
            f" bits, text, bytes, lists and dictionaries with text as keys."
        ) from error
    if len(printed) > limits.head_bytes:
        raise InputError(
            f"The fields of message {head.kind!r} take {len(printed)} bytes; at most"
            f" {limits.head_bytes} are sent: put large values into arrays."
        )
    return _framed(FrameType.MESSAGE, sequence, printed, body_bytes)


def read_prefix(data: bytes | bytearray | memoryview, limits: FrameLimits) -> Prefix:
    """The prefix of a frame, from its 32 bytes.

    Raises:
        DamagedMessage: these bytes are no prefix, or the frame is larger than the limits.
        PeerRefused: the other side speaks another protocol.
    """
    magic, protocol, kind, zero, sequence, head_bytes, body_bytes = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise DamagedMessage(
            f"Bytes came that are no frame: it begins with {bytes(magic)!r}, not {_MAGIC!r}."
        )
    if protocol != PROTOCOL:
        raise PeerRefused(
            f"The other worker speaks protocol {protocol} and this one {PROTOCOL}; install the"
            f" same Banyan on both."
        )
    frame_type = _FRAME_TYPES.get(kind)
    if zero or frame_type is None:
        raise DamagedMessage(f"A frame came whose type is {kind}; known are 1 to 5.")
    if head_bytes > limits.head_bytes or body_bytes > limits.body_bytes:
        raise DamagedMessage(
            f"A frame came with {head_bytes} bytes of fields and {body_bytes} of arrays; the"
            f" limits are {limits.head_bytes} and {limits.body_bytes}."
        )
    (checksum,) = _CHECKSUM.unpack_from(data, _PREFIX.size)
    return Prefix(frame_type, sequence, head_bytes, body_bytes, checksum)


def check_head(prefix: Prefix, prefix_bytes: bytes | bytearray | memoryview, head: bytes) -> None:
    """Compare the checksum of a prefix and its head.

    Raises:
        DamagedMessage: it differs.
    """
    if zlib.crc32(head, zlib.crc32(prefix_bytes[: _PREFIX.size])) != prefix.checksum:
        raise DamagedMessage(f"The checksum of frame {prefix.sequence} does not fit its bytes.")


def read_message_head(frame: Frame, arena_bytes: int = 0) -> MessageHead:
    """The head of a message; its part of the arena is inside it. `arrays` is not read yet.

    Raises:
        DamagedMessage: it is no head of a message, or its arrays lie outside.
    """
    head: MessageHead = _decode(_MESSAGE_DECODER, frame.head, "head of a message frame")
    if head.arena_offset is not None:
        size = head.arena_bytes
        if head.arena_offset < 0 or size < 0 or head.arena_offset + size > arena_bytes:
            raise DamagedMessage(
                f"Message {head.kind!r} says that its arrays lie at {head.arena_offset} and have"
                f" {size} bytes; the shared memory has {arena_bytes}."
            )
    return head


def read_arrays(printed: msgspec.Raw, kind: str) -> list[ArrayHead]:
    """The list of arrays of a message of that kind; nothing of it is checked yet.

    Raises:
        DamagedMessage: it is no such list.
    """
    arrays: list[ArrayHead] = _decode(_ARRAYS_DECODER, printed, f"arrays of message {kind!r}")
    return arrays


def read_hello(frame: Frame) -> Hello:
    """What the other side says first.

    Raises:
        DamagedMessage: it is no hello.
    """
    hello: Hello = _decode(_HELLO_DECODER, frame.head, "head of a hello frame")
    if frame.prefix.type is not FrameType.HELLO or not 0 < hello.beat_seconds < 3600:
        raise DamagedMessage("The first frame of the other worker is no hello.")
    return hello


def read_beat(frame: Frame) -> Beat:
    """A beat. Raises DamagedMessage if it is none."""
    beat: Beat = _decode(_BEAT_DECODER, frame.head, "head of a beat frame")
    return beat


def read_credit(frame: Frame) -> Credit:
    """A credit. Raises DamagedMessage if it is none."""
    credit: Credit = _decode(_CREDIT_DECODER, frame.head, "head of a credit frame")
    return credit


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes | msgspec.Raw, what: str) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as error:
        raise DamagedMessage(f"The {what} cannot be read: {error}.") from error
