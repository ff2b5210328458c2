"""Two ends in one process keep the promises of a channel."""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from banyan.distributed.channel import Message, TypedShape
from banyan.distributed.in_process import InProcessChannel, channel_pair
from banyan.distributed.waiting import wait_for_any
from banyan.foundation.errors import ChannelClosed, InputError, MessageLate


@pytest.fixture
def pair() -> Iterator[tuple[InProcessChannel, InProcessChannel]]:
    one, two = channel_pair("driver", "worker", capacity=2)
    with contextlib.closing(one), contextlib.closing(two):
        yield one, two


def test_a_message_arrives_whole_and_in_order(
    pair: tuple[InProcessChannel, InProcessChannel],
) -> None:
    one, two = pair
    one.send(Message("run", {"step": 7}, {"tokens": np.array([1, 2, 3])}))
    one.send(Message("stop"))
    first, second = two.receive(), two.receive()
    assert (first.kind, first.fields, first.arrays["tokens"].tolist()) == (
        "run",
        {"step": 7},
        [1, 2, 3],
    )
    assert (second.kind, dict(second.fields), dict(second.arrays)) == ("stop", {}, {})


def test_what_was_reserved_is_sent_once(
    pair: tuple[InProcessChannel, InProcessChannel],
) -> None:
    one, two = pair
    reserved = one.reserve({"x": TypedShape(np.dtype("int8"), (2, 3))})
    reserved["x"][:] = 4
    one.send(Message("run", {}, reserved))
    assert two.receive().arrays["x"].tolist() == [[4, 4, 4]] * 2
    with pytest.raises(InputError, match="were sent or given back before"):
        one.send(Message("run", {}, reserved))
    given_back = one.reserve({})
    one.give_back(given_back)
    with pytest.raises(InputError, match="reserve new ones"):
        one.send(Message("run", {}, given_back))


def test_arrays_are_copied_on_the_way_and_read_only(
    pair: tuple[InProcessChannel, InProcessChannel],
) -> None:
    one, two = pair
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    one.send(Message("run", arrays={"values": values}))
    values[:] = 0
    received = two.receive().arrays["values"]
    assert received.tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert received.flags.c_contiguous
    assert not received.flags.writeable


def test_what_is_late_is_said_and_nothing_is_lost(
    pair: tuple[InProcessChannel, InProcessChannel],
) -> None:
    one, two = pair
    with pytest.raises(MessageLate, match=r"driver .* sent nothing within 0"):
        two.receive(timeout=0)
    one.send(Message("a"))
    one.send(Message("b"))
    with pytest.raises(MessageLate, match=r"worker .* took none of 2 messages"):
        one.send(Message("c"), timeout=0)
    assert [two.receive(0).kind, two.receive(0).kind] == ["a", "b"]


def test_what_was_sent_before_a_close_is_received_first(
    pair: tuple[InProcessChannel, InProcessChannel],
) -> None:
    one, two = pair
    one.send(Message("last words"))
    one.close()
    assert two.receive().kind == "last words"
    with pytest.raises(ChannelClosed, match=r"driver .* closed"):
        two.receive()
    with pytest.raises(ChannelClosed):
        two.send(Message("reply"))
    with pytest.raises(ChannelClosed, match="on this side"):
        one.receive()


def test_a_close_wakes_the_end_that_waits(pair: tuple[InProcessChannel, InProcessChannel]) -> None:
    one, two = pair
    timer = threading.Timer(0.05, one.close)
    timer.start()
    with pytest.raises(ChannelClosed):
        two.receive(timeout=10)
    timer.join()


def test_waiting_names_the_channel_that_has_something(
    pair: tuple[InProcessChannel, InProcessChannel],
) -> None:
    one, two = pair
    other, far = channel_pair()
    with contextlib.closing(other), contextlib.closing(far):
        assert wait_for_any([two, other], timeout=0) == ()
        far.send(Message("here"))
        assert wait_for_any([two, other], timeout=1) == (other,)
        other.receive()
        assert wait_for_any([two, other], timeout=0) == ()
        one.close()
        assert wait_for_any([two, other], timeout=1) == (two,)


def test_python_objects_are_refused(pair: tuple[InProcessChannel, InProcessChannel]) -> None:
    with pytest.raises(InputError, match="'things' of 'run' holds Python objects"):
        pair[0].send(Message("run", arrays={"things": np.array([object()])}))


def test_the_pulse_tells_a_waiting_peer_from_a_working_one(
    pair: tuple[InProcessChannel, InProcessChannel],
) -> None:
    one, two = pair
    assert one.pulse.working_seconds > 0
    with pytest.raises(MessageLate):
        two.receive(timeout=0)
    assert one.pulse.silent_seconds == 0


def test_a_sender_does_something_else_while_there_is_no_room() -> None:
    one, two = channel_pair(capacity=1)
    read: list[str] = []
    for number in range(3):
        one.send(Message(f"m{number}"), meanwhile=lambda: read.append(two.receive(0).kind))
    assert read == ["m0", "m1"]
    assert two.receive(0).kind == "m2"
    one.close()
    two.close()
