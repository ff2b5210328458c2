"""The form of a frame: literal bytes, every value there and back, and nothing else is read."""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from banyan.distributed.assembler import FrameAssembler
from banyan.distributed.channel import Message
from banyan.distributed.frames import (
    DTYPES,
    Beat,
    Frame,
    FrameLimits,
    FrameType,
    Hello,
    MessageHead,
    print_arrays,
    print_frame,
    print_message,
    read_arrays,
    read_beat,
    read_credit,
    read_hello,
    read_message_head,
    read_prefix,
)
from banyan.distributed.layout import Layouts
from banyan.foundation.errors import DamagedMessage, InputError, PeerRefused

LIMITS = FrameLimits(head_bytes=1 << 16, body_bytes=1 << 20, arrays=8)
NO_ARRAYS = print_arrays([])


def frame_of(head: MessageHead, body: bytes = b"", sequence: int = 0) -> Frame:
    """What an assembler makes of a message."""
    printed = print_message(head, sequence, len(body), LIMITS)
    (frame,) = FrameAssembler(LIMITS).feed(memoryview(printed + body))
    return frame


def body_of(message: Message) -> tuple[MessageHead, bytes]:
    """A message as its head and body."""
    layout = Layouts(LIMITS).of(message.kind, message.arrays)
    body = bytearray(layout.num_bytes)
    for array, placed in zip(message.arrays.values(), layout.arrays, strict=True):
        body[placed.offset : placed.offset + array.nbytes] = array.tobytes()
    return MessageHead(message.kind, dict(message.fields), layout.printed), bytes(body)


def test_a_beat_is_these_bytes() -> None:
    start = b"BNYN" + bytes([2, 3, 0, 0]) + (7).to_bytes(8, "little")
    head = b"\x91\xcb" + struct.pack(">d", 1.5)
    lengths = len(head).to_bytes(4, "little") + bytes(8)
    checksum = zlib.crc32(start + lengths + head).to_bytes(4, "little")
    assert print_frame(FrameType.BEAT, 7, Beat(1.5), 0) == start + lengths + checksum + head


FIELDS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False)
        | st.text(max_size=20)
        | st.binary(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=4,
)
ARRAYS = st.dictionaries(
    st.text(max_size=8),
    st.sampled_from(list(DTYPES.values())).flatmap(
        lambda dtype: numpy_st.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5).map(
            lambda shape: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
        )
    ),
    max_size=4,
)


@given(kind=st.text(max_size=20), fields=FIELDS, arrays=ARRAYS)
def test_every_message_comes_back_as_it_was(
    kind: str, fields: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    head, body = body_of(Message(kind, fields, arrays))
    frame = frame_of(head, body)
    read = read_message_head(frame)
    data = np.empty(0, np.uint8) if frame.body is None else frame.body
    assert (read.kind, read.fields) == (kind, fields)
    found = Layouts(LIMITS).read(kind, read.arrays, len(body)).views(data)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n": 2**64}, "fields of message 'run' cannot be sent"),
        ({"n": object()}, "fields of message 'run' cannot be sent"),
        ({"text": "x" * 70000}, "take 7.... bytes; at most 65536"),
    ],
)
def test_fields_that_cannot_be_sent_are_said(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        print_message(MessageHead("run", fields, NO_ARRAYS), 0, 0, LIMITS)


def test_another_protocol_is_refused_by_its_number() -> None:
    printed = bytearray(print_frame(FrameType.GOODBYE, 0, None, 0))
    printed[4] = 9
    with pytest.raises(PeerRefused, match="speaks protocol 9 and this one 2"):
        read_prefix(printed, LIMITS)


def test_a_frame_larger_than_the_limit_is_not_read() -> None:
    printed = print_frame(FrameType.MESSAGE, 0, None, (1 << 20) + 1)
    with pytest.raises(DamagedMessage, match="1048577 of arrays; the limits are 65536 and 1048576"):
        read_prefix(printed, LIMITS)


@pytest.mark.parametrize(
    ("offset", "size"), [(-64, 64), (4096, 64), (0, 4097), (0, -1), (2**63, 1)]
)
def test_a_place_outside_the_shared_memory_is_damage(offset: int, size: int) -> None:
    frame = frame_of(MessageHead("run", {}, NO_ARRAYS, arena_offset=offset, arena_bytes=size))
    with pytest.raises(DamagedMessage, match="the shared memory has 4096"):
        read_message_head(frame, arena_bytes=4096)


@given(st.binary(max_size=200))
def test_any_head_is_read_or_damage(head: bytes) -> None:
    prefix = read_prefix(print_frame(FrameType.MESSAGE, 0, None, 0), LIMITS)
    frame = Frame(prefix, head, None)
    for read in (
        lambda: read_message_head(frame, 4096),
        lambda: read_hello(frame),
        lambda: read_beat(frame),
        lambda: read_credit(frame),
        lambda: read_arrays(msgspec.Raw(head), "run"),
    ):
        try:
            read()
        except DamagedMessage:
            continue


def test_a_head_nested_too_deep_is_damage() -> None:
    prefix = read_prefix(print_frame(FrameType.MESSAGE, 0, None, 0), LIMITS)
    deep = b"\x93\xa1k\x81\xa1a" + b"\x91" * 60000 + b"\x90\x90"
    with pytest.raises(DamagedMessage, match="head of a message frame cannot be read"):
        read_message_head(Frame(prefix, deep, None))


def test_a_hello_must_come_as_one_and_beat_at_times() -> None:
    hello = Hello(name="w", version="1", beat_seconds=0.0)
    printed = print_frame(FrameType.HELLO, 0, hello, 0)
    (frame,) = FrameAssembler(LIMITS).feed(memoryview(printed))
    with pytest.raises(DamagedMessage, match="no hello"):
        read_hello(frame)
