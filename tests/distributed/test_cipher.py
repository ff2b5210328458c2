"""What goes in comes out; what was changed, left out, sent twice or put elsewhere does not."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.distributed.assembler import FrameAssembler
from banyan.distributed.cipher import SealedLine
from banyan.distributed.frames import (
    Beat,
    Frame,
    FrameLimits,
    FrameType,
    MessageHead,
    print_arrays,
    print_frame,
    print_message,
)
from banyan.foundation.errors import ChannelError, DamagedMessage

LIMITS = FrameLimits(head_bytes=4096, body_bytes=1 << 20, arrays=8)
FIRST, SECOND = bytes(32), bytes([1]) * 32


class Wire:
    """A socket that already holds what was sent, and then ends."""

    def __init__(self, data: bytes, piece: int = 100_000) -> None:
        self._pieces = [data[i : i + piece] for i in range(0, len(data), piece)]

    def recv_into(self, target: memoryview) -> int:
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        size = min(len(piece), len(target))
        target[:size] = piece[:size]
        if piece[size:]:
            self._pieces.insert(0, piece[size:])
        return size


def read_all(data: bytes, piece: int = 100_000, key: bytes = FIRST) -> list[Frame]:
    line, wire = SealedLine(SECOND, key), Wire(data, piece)
    return list(_frames(line, wire))


def _frames(line: SealedLine, wire: Wire) -> Iterator[Frame]:
    assembler = FrameAssembler(LIMITS)
    while True:
        try:
            yield from line.read(wire, assembler)  # type: ignore[arg-type]
        except EOFError:
            return


def records(*pieces: bytes) -> list[bytes]:
    line = SealedLine(FIRST, SECOND)
    return [bytes(record) for record in line.wrap(memoryview(piece) for piece in pieces)]


BODY = bytes(range(256)) * 1000
HEAD = print_message(MessageHead("m", {}, print_arrays([])), 0, len(BODY), LIMITS)
BEAT = print_frame(FrameType.BEAT, 1, Beat(0.0), 0)


@given(piece=st.sampled_from([1 << 18, 65537, 65536, 40_000, 9_999]))
@settings(max_examples=5)
def test_what_is_sealed_opens_whatever_the_pieces(piece: int) -> None:
    sealed = b"".join(records(HEAD, BODY, BEAT))
    frames = read_all(sealed, piece)
    assert [frame.prefix.type for frame in frames] == [FrameType.MESSAGE, FrameType.BEAT]
    assert frames[0].body is not None
    assert frames[0].body.tobytes() == BODY
    assert BODY[:64] not in sealed


def test_a_record_has_no_more_bytes_than_the_framework_allows() -> None:
    assert max(len(record) for record in records(HEAD, BODY)) == 65535 + 2


def test_small_frames_share_a_record_when_sent_together() -> None:
    assert len(records(HEAD[:32], HEAD[32:])) == 1


@pytest.mark.parametrize(
    "order",
    [(1, 0, 2, 3), (0, 0, 1, 2), (0, 2, 3), (1, 2, 3)],
    ids=["swapped", "twice", "gap", "late"],
)
def test_records_out_of_order_do_not_open(order: tuple[int, ...]) -> None:
    sealed = records(HEAD, BODY)
    assert len(sealed) == 4
    with pytest.raises(DamagedMessage, match="does not open"):
        read_all(b"".join(sealed[index] for index in order))


def test_another_key_opens_nothing() -> None:
    with pytest.raises(DamagedMessage, match="Record 0 does not open"):
        read_all(b"".join(records(BEAT)), key=SECOND)


@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
@settings(max_examples=60)
def test_a_changed_byte_never_becomes_a_frame(place: int, change: int) -> None:
    sealed = bytearray(b"".join(records(print_frame(FrameType.BEAT, 0, Beat(0.0), 0))))
    sealed[place % len(sealed)] ^= change
    with contextlib.suppress(ChannelError):
        assert read_all(bytes(sealed)) == []


def test_a_record_without_content_is_damage() -> None:
    with pytest.raises(DamagedMessage, match="A record of 16 bytes"):
        read_all(b"\x00\x10" + bytes(16))


def test_the_socket_is_what_it_reads_from() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"".join(records(print_frame(FrameType.BEAT, 0, Beat(0.5), 0))))
        (frame,) = SealedLine(SECOND, FIRST).read(ours, FrameAssembler(LIMITS))
    assert frame.prefix.type is FrameType.BEAT
