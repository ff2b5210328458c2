"""What every channel over a socket promises, in shared memory and over TCP."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from banyan.distributed import outgoing
from banyan.distributed.channel import Message, TypedShape
from banyan.distributed.frames import FrameLimits
from banyan.distributed.stream_channel import StreamChannel
from banyan.distributed.waiting import wait_for_any
from banyan.foundation.errors import (
    ChannelClosed,
    ChannelError,
    DamagedMessage,
    InputError,
    MessageLate,
)
from tests.distributed.peer_process import TIMING
from tests.distributed.peers import DRIVER, PAIRS, WORKER, local_pair

Pair = tuple[StreamChannel, StreamChannel]


@pytest.fixture(params=["local", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with PAIRS[request.param]() as ends:
        yield ends


def test_messages_arrive_whole_and_in_order_both_ways(pair: Pair) -> None:
    one, two = pair
    big = np.arange(60_000, dtype=np.float32).reshape(100, 600)
    for sender, receiver in ((one, two), (two, one)):
        sender.send(Message("small", {"step": 7, "who": ["a", None]}))
        sender.send(Message("large", {}, {"big": big, "none": np.zeros((0, 3)), "one": big[1, 1]}))
        sender.send(Message("end", {}, {"half": np.ones(3, ml_dtypes.bfloat16)}))
        first, second, third = (receiver.receive() for _ in range(3))
        assert (first.kind, first.fields) == ("small", {"step": 7, "who": ["a", None]})
        assert np.array_equal(second.arrays["big"], big)
        assert second.arrays["none"].shape == (0, 3)
        assert second.arrays["one"].item() == 601.0
        assert third.arrays["half"].dtype == ml_dtypes.bfloat16
        assert not second.arrays["big"].flags.writeable


def test_arrays_may_be_changed_after_sending_and_need_not_be_contiguous(pair: Pair) -> None:
    one, two = pair
    values = np.arange(50_000, dtype=np.int32).reshape(100, 500).T
    expected = values.copy()
    one.send(Message("x", {}, {"v": values, "w": values[:5, ::2]}))
    values[:] = -1
    received = two.receive()
    assert np.array_equal(received.arrays["v"], expected)
    assert np.array_equal(received.arrays["w"], expected[:5, ::2])
    assert received.arrays["v"].flags.c_contiguous


def test_two_ends_that_send_much_to_each_other_do_not_wait_for_each_other(pair: Pair) -> None:
    """Neither receives until it has sent more than any buffer holds."""
    piece = np.ones(700_000, np.uint8)
    received: list[list[object]] = []

    def talk(channel: StreamChannel) -> None:
        for number in range(12):
            channel.send(Message("m", {"n": number}, {"x": piece}), timeout=30)
        received.append([channel.receive().fields["n"] for _ in range(12)])

    threads = [threading.Thread(target=talk, args=(end,)) for end in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert received == [list(range(12))] * 2


def test_what_is_late_is_said_and_comes_later(pair: Pair) -> None:
    one, two = pair
    with pytest.raises(MessageLate, match=r"worker .* sent nothing within 0\.02 s"):
        one.receive(timeout=0.02)
    two.send(Message("late"))
    assert one.receive().kind == "late"


def test_a_peer_without_room_is_said_and_nothing_is_sent_in_parts(pair: Pair) -> None:
    one, two = pair
    message = Message("m", {}, {"x": np.ones(900_000, np.uint8)})
    sent = _send_until(one, message, MessageLate, "had no room for message 'm'")
    assert sent > 0
    for _ in range(sent):
        assert two.receive().arrays["x"].shape == (900_000,)
    one.send(Message("after"), timeout=10)
    assert two.receive().kind == "after"


def test_what_was_sent_before_a_close_is_received_first(pair: Pair) -> None:
    one, two = pair
    one.send(Message("last", {}, {"x": np.ones(100_000)}))
    one.close()
    assert two.receive().arrays["x"].sum() == 100_000
    with pytest.raises(ChannelClosed, match=r"driver .* closed the connection"):
        two.receive()
    with pytest.raises(ChannelClosed):
        two.send(Message("reply"))
    with pytest.raises(ChannelClosed, match="on this side"):
        one.receive()
    assert one.is_closed
    assert two.is_closed


def test_sending_to_one_who_closed_says_so_not_that_it_died(pair: Pair) -> None:
    one, two = pair
    two.send(Message("left behind"))
    two.close()
    _send_until(one, Message("x"), ChannelClosed, r"worker .* closed")
    assert one.receive(1).kind == "left behind"


def test_closing_wakes_the_thread_that_receives(pair: Pair) -> None:
    one, _ = pair
    timer = threading.Timer(0.05, one.close)
    timer.start()
    with pytest.raises(ChannelClosed, match="on this side"):
        one.receive()
    timer.join()


def test_one_thread_may_send_while_another_receives(pair: Pair) -> None:
    one, two = pair

    def echo() -> None:
        with contextlib.suppress(ChannelClosed):
            while True:
                two.send(two.receive())

    def send() -> None:
        for number in range(300):
            one.send(Message("m", {"n": number}, {"x": np.full(number * 300, number)}))

    threads = [threading.Thread(target=echo), threading.Thread(target=send)]
    for thread in threads:
        thread.start()
    for number in range(300):
        message = one.receive(20)
        assert message.fields["n"] == number
        assert (message.arrays["x"] == number).all()
    threads[1].join()
    one.close()
    threads[0].join()


@pytest.mark.parametrize("pause", [0.0, 0.004])
def test_messages_that_come_regularly_arrive_whole_and_late_ones_are_said(
    pair: Pair, pause: float
) -> None:
    """Long enough that the receiver knows when to look; then the sender stops."""
    one, two = pair

    def send() -> None:
        for number in range(40):
            time.sleep(pause)
            two.send(Message("m", {"n": number}, {"x": np.full(10_000, number)}))

    thread = threading.Thread(target=send)
    thread.start()
    for number in range(40):
        message = one.receive(20)
        assert message.fields["n"] == number
        assert (message.arrays["x"] == number).all()
    thread.join()
    with pytest.raises(MessageLate):
        one.receive(timeout=0.002)
    two.close()
    with pytest.raises(ChannelClosed):
        one.receive(20)


def test_waiting_for_any_finds_the_one_that_spoke(pair: Pair) -> None:
    one, two = pair
    with local_pair() as (three, four):
        four.send(Message("here"))
        assert three in wait_for_any([one, three], timeout=10)
        assert three.receive(0).kind == "here"
        two.send(Message("a"))
        two.send(Message("b"))
        while one not in wait_for_any([one, three], timeout=10):
            pass
        assert one.receive().kind == "a"
        # The second may have been read with the first: then no descriptor tells of it.
        assert one in wait_for_any([one, three], timeout=10)
        assert one.receive().kind == "b"


def test_a_bad_message_is_refused_and_the_channel_stays_good(pair: Pair) -> None:
    one, two = pair
    with pytest.raises(InputError):
        one.send(Message("bad", {"n": 2**70}, {"x": np.ones(100_000)}))
    with pytest.raises(InputError):
        one.send(Message("bad", {}, {"x": np.array([object()])}))
    one.send(Message("good", {}, {"x": np.ones(100_000)}))
    assert two.receive().kind == "good"


@pytest.mark.parametrize("kind", ["local", "tcp"])
def test_a_message_beyond_the_receivers_limit_breaks_the_channel_with_a_reason(kind: str) -> None:
    strict = replace(WORKER, limits=FrameLimits(body_bytes=10_000))
    with PAIRS[kind](DRIVER, strict) as (one, two):
        one.send(Message("m", {}, {"x": np.ones(20_000, np.uint8)}))
        with pytest.raises(DamagedMessage, match=r"driver .* limits are 1048576 and 10000"):
            two.receive()
        with pytest.raises(DamagedMessage):
            two.send(Message("reply"))


def test_what_is_written_to_reserved_memory_arrives_and_is_sent_once(pair: Pair) -> None:
    one, two = pair
    wanted = {
        "hidden": TypedShape(np.dtype("float32"), (50, 1000)),
        "few": TypedShape(np.dtype(ml_dtypes.bfloat16), (3,)),
        "none": TypedShape(np.dtype("int8"), (0, 2)),
    }
    reserved = one.reserve(wanted)
    for array in reserved.values():
        assert array.flags.writeable
        array[...] = 7
    one.send(Message("run", {"step": 3}, reserved))
    received = two.receive()
    assert received.fields == {"step": 3}
    assert {name: (a.dtype, a.shape) for name, a in received.arrays.items()} == wanted
    assert all((array == 7).all() for array in received.arrays.values())
    with pytest.raises(InputError, match=r"'run' were sent or given back before"):
        one.send(Message("run", {}, reserved))
    given_back = one.reserve(wanted)
    one.give_back(given_back)
    with pytest.raises(InputError, match="reserve new ones"):
        one.send(Message("run", {}, given_back))
    one.send(Message("end"))
    assert two.receive().kind == "end"


def test_arrays_reserved_elsewhere_are_sent_like_any(pair: Pair) -> None:
    """One result for two workers: written where the one reads it, copied for the other."""
    one, two = pair
    reserved = two.reserve({"x": TypedShape(np.dtype("int32"), (20_000,))})
    reserved["x"][:] = np.arange(20_000)
    one.send(Message("copied", {}, {"x": reserved["x"]}))
    two.send(Message("in place", {}, reserved))
    assert two.receive().arrays["x"].sum() == one.receive().arrays["x"].sum() == 199_990_000


def test_a_reservation_sent_or_given_back_elsewhere_stays_one_here(pair: Pair) -> None:
    one, two = pair
    reserved = two.reserve({"x": TypedShape(np.dtype("int32"), (20_000,))})
    reserved["x"][:] = 1
    one.send(Message("copied", {}, reserved))
    one.give_back(reserved)
    assert not reserved.is_spent
    two.send(Message("in place", {}, reserved))
    assert two.receive().arrays["x"].sum() == one.receive().arrays["x"].sum() == 20_000
    assert reserved.is_spent


def test_what_was_interrupted_while_it_was_copied_is_never_sent(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small enough that the reader is not told ahead."""
    one, two = pair
    with monkeypatch.context() as interrupted:
        interrupted.setattr(np, "copyto", _interrupt)
        interrupted.setattr(outgoing, "_bytes_of", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            one.send(Message("half", {}, {"x": np.ones(50_000, np.uint8)}))
    one.close()
    with pytest.raises(ChannelError):
        two.receive(5)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_cannot_be_sent_cannot_be_reserved(pair: Pair) -> None:
    one, _ = pair
    with pytest.raises(InputError, match="datetime64"):
        one.reserve({"x": TypedShape(np.dtype("datetime64[s]"), (2,))})
    one.close()
    with pytest.raises(ChannelClosed):
        one.reserve({})


def test_a_peer_that_waits_and_one_that_works_differ_in_their_pulse(pair: Pair) -> None:
    one, two = pair
    waiting = threading.Thread(target=two.receive)
    waiting.start()
    _hear_until(one, lambda: one.pulse.working_seconds == 0.0)
    _hear(one, 0.2)
    assert one.pulse.working_seconds == 0.0
    one.send(Message("work"))
    waiting.join()
    _hear_until(one, lambda: one.pulse.working_seconds > 0.1)
    assert one.pulse.silent_seconds <= TIMING.silent_seconds


def _send_until(
    channel: StreamChannel, message: Message, error: type[Exception], words: str
) -> int:
    """Send again and again until that is refused; how often it was not."""
    for sent in range(1000):
        try:
            channel.send(message, timeout=0.05)
        except error as refused:
            if re.search(words, str(refused)):
                return sent
            raise
    raise AssertionError("it was never refused")


def _hear_until(channel: StreamChannel, holds: Callable[[], bool]) -> None:
    """Listen to beats until that holds."""
    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        _hear(channel, 0.05)
    assert holds()


def _hear(channel: StreamChannel, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(MessageLate):
            channel.receive(left)
