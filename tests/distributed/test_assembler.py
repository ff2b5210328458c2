"""Frames come out of a stream whatever the pieces; a stream that is damaged never gives one."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.distributed.assembler import FrameAssembler, aligned_bytes
from banyan.distributed.frames import (
    Beat,
    Frame,
    FrameLimits,
    FrameType,
    MessageHead,
    print_arrays,
    print_frame,
    print_message,
    read_message_head,
)
from banyan.foundation.errors import ChannelError, DamagedMessage

NO_ARRAYS = print_arrays([])
LIMITS = FrameLimits(head_bytes=4096, body_bytes=4096, arrays=8)
STREAM = (
    print_message(MessageHead("first", {"a": 1}, NO_ARRAYS), 0, 100, LIMITS)
    + bytes(range(100))
    + print_frame(FrameType.BEAT, 1, Beat(0.5), 0)
    + print_message(MessageHead("second", {"b": "x" * 50}, NO_ARRAYS), 2, 0, LIMITS)
    + print_frame(FrameType.GOODBYE, 3, None, 0)
)
WHAT_IT_SAYS = [
    (FrameType.MESSAGE, bytes(range(100))),
    (FrameType.BEAT, None),
    (FrameType.MESSAGE, None),
    (FrameType.GOODBYE, None),
]


def said(frames: list[Frame]) -> list[tuple[FrameType, bytes | None]]:
    return [(f.prefix.type, None if f.body is None else f.body.tobytes()) for f in frames]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_pieces_do_not_matter(cuts: list[int]) -> None:
    assembler, frames = FrameAssembler(LIMITS), []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        frames += assembler.feed(memoryview(STREAM[start:end]))
    assert said(frames) == WHAT_IT_SAYS
    assert not assembler.is_inside_frame


@given(st.integers(1, len(STREAM) - 1))
def test_a_stream_cut_short_is_known_to_be(end: int) -> None:
    assembler = FrameAssembler(LIMITS)
    frames = assembler.feed(memoryview(STREAM[:end]))
    assert said(frames) == WHAT_IT_SAYS[: len(frames)]
    whole = sum(len(part) for part in _parts()[: len(frames)])
    assert assembler.is_inside_frame == (end > whole)


def _parts() -> list[bytes]:
    lengths = [len(STREAM)]
    found = []
    starts = [i for i in range(len(STREAM)) if STREAM[i : i + 4] == b"BNYN"] + lengths
    for start, end in itertools.pairwise(starts):
        found.append(STREAM[start:end])
    return found


@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found_unless_it_is_in_a_body(place: int, change: int) -> None:
    damaged = bytearray(STREAM)
    damaged[place] ^= change
    body_start = len(_parts()[0]) - 100
    assembler = FrameAssembler(LIMITS)
    frames: list[Frame] = []
    try:
        frames = assembler.feed(memoryview(damaged))
        is_whole = len(frames) == 4
    except ChannelError:
        is_whole = False
    # Bodies are guarded elsewhere: by the memory of one host, or by the tag of every record.
    assert is_whole == (body_start <= place < body_start + 100)


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_damage(data: bytes) -> None:
    assembler = FrameAssembler(LIMITS)
    try:
        for frame in assembler.feed(memoryview(data)):
            read_message_head(frame)
    except ChannelError:
        pass


@pytest.mark.parametrize("numbers", [(1,), (0, 0), (0, 2)])
def test_a_frame_that_is_missing_or_comes_twice_is_damage(numbers: tuple[int, ...]) -> None:
    stream = b"".join(print_frame(FrameType.BEAT, n, Beat(0.0), 0) for n in numbers)
    with pytest.raises(DamagedMessage, match="one is missing or came twice"):
        FrameAssembler(LIMITS).feed(memoryview(stream))


def test_a_body_can_be_read_straight_to_where_it_belongs() -> None:
    assembler = FrameAssembler(LIMITS)
    printed = print_message(MessageHead("m", {}, NO_ARRAYS), 0, 100, LIMITS)
    assert assembler.feed(memoryview(printed + b"ab")) == []
    target = assembler.missing_body()
    assert target is not None
    target[:] = b"c" * 98
    (frame,) = assembler.fill(98)
    assert frame.body is not None
    assert frame.body.tobytes() == b"ab" + b"c" * 98
    assert assembler.missing_body() is None


def test_bodies_begin_where_vector_loads_want_them() -> None:
    assert [aligned_bytes(n).ctypes.data % 64 for n in (1, 100, 5000)] == [0, 0, 0]
