"""Two processes of one host: memory comes back; a death, a stop and a slow step differ."""

import contextlib
import gc
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from banyan.distributed import local, outgoing
from banyan.distributed.channel import Array, Channel, Message, TypedShape
from banyan.distributed.frames import PROTOCOL
from banyan.distributed.greeting import Identity
from banyan.distributed.local import local_sockets, open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.pulse import Condition, Patience, Timing, judge
from banyan.foundation.errors import (
    BanyanError,
    DamagedMessage,
    InputError,
    MessageLate,
    PeerLost,
    PeerRefused,
    PeerSilent,
)
from tests.distributed.peer_process import TIMING
from tests.distributed.peers import DRIVER, NEVER_SILENT, WORKER, local_pair, local_worker


def test_a_worker_process_answers_and_its_death_is_seen_at_once() -> None:
    with local_worker("echo", NEVER_SILENT) as (channel, process):
        big = np.random.default_rng(0).normal(size=(300, 1000))
        channel.send(Message("run", {"n": 1}, {"x": big}))
        answer = channel.receive()
        assert answer.fields == {"kind": "run", "n": 1}
        assert np.array_equal(answer.arrays["x"], big)
        process.send_signal(signal.SIGKILL)
        # Waiting for its beat would take an hour.
        with pytest.raises(PeerLost, match=r"worker \(shared memory\) is gone"):
            channel.receive(timeout=60)
        # What it sent lies in memory that outlives it.
        assert np.array_equal(answer.arrays["x"], big)


def test_a_death_in_the_middle_of_a_flood_gives_whole_messages_and_then_the_error() -> None:
    with local_worker("flood") as (channel, process):
        channel.receive()
        process.send_signal(signal.SIGKILL)
        with pytest.raises(PeerLost):
            _receive_for_ever(channel)


def _receive_for_ever(channel: Channel) -> None:
    while True:
        assert channel.receive().arrays["x"].shape == (1 << 20,)


def test_a_stopped_process_is_silent_and_a_slow_step_is_not() -> None:
    patience = Patience(least_hung_seconds=0.5)
    with local_worker("spin") as (channel, process):
        channel.send(Message("begin"))
        # Longer than the limit of silence: it computes, and beats.
        with pytest.raises(MessageLate):
            channel.receive(timeout=1.5)
        pulse = channel.pulse
        assert pulse.silent_seconds <= TIMING.silent_seconds
        assert pulse.working_seconds > 0.5
        assert judge(pulse, pulse.working_seconds, TIMING, patience) is Condition.WELL
        assert judge(pulse, pulse.working_seconds / 4, TIMING, patience) is Condition.SLOW
        assert judge(pulse, 0.001, TIMING, patience) is Condition.HUNG
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(PeerSilent, match=r"has not even beaten for 1\.0 s"):
            channel.receive()
        process.send_signal(signal.SIGCONT)


def test_who_was_stopped_itself_does_not_call_the_other_silent() -> None:
    """A pause of this side, longer than the limit, during which the other one beat."""
    with local_pair() as (one, two):
        time.sleep(1.5)
        two.send(Message("x"))
        assert one.receive().kind == "x"
        with pytest.raises(MessageLate):
            one.receive(timeout=0.3)


def _lies_in_shared_memory(array: Array) -> bool:
    """Memory that is mapped for reading cannot be made writeable; memory of our own can."""
    try:
        array.flags.writeable = True
    except ValueError:
        return True
    array.flags.writeable = False
    return False


def test_room_comes_back_when_nobody_refers_to_an_array() -> None:
    """Far more goes through than the memory holds, all of it in the memory."""
    with local_pair(arena_bytes=1 << 20) as (one, two):
        for number in range(20):
            one.send(Message("m", {}, {"x": np.full(150_000, number, np.uint8)}))
            view = two.receive().arrays["x"][10:20]
            assert view.tolist() == [number] * 10
            assert _lies_in_shared_memory(view)


def test_reserved_arrays_are_read_where_they_were_written_and_their_room_comes_back() -> None:
    shape = {"x": TypedShape(np.dtype("uint8"), (120_000,))}
    with local_pair(arena_bytes=1 << 18) as (one, two):
        for number in range(20):
            reserved = one.reserve(shape)
            reserved["x"][:] = number
            one.send(Message("m", {}, reserved))
            array = two.receive().arrays["x"]
            assert _lies_in_shared_memory(array)
            # Nothing lies between the two: what is written now is read now.
            reserved["x"][5] = 99
            assert array[:7].tolist() == [*[number] * 5, 99, number]
            del array


def test_reservations_are_sent_in_any_order_and_without_room_lie_elsewhere() -> None:
    shape = {"x": TypedShape(np.dtype("uint8"), (120_000,))}
    with local_pair(arena_bytes=1 << 18) as (one, two):
        first, second, third = one.reserve(shape), one.reserve(shape), one.reserve(shape)
        for number, reserved in enumerate((first, second, third)):
            reserved["x"][:] = number
        kept = []
        for reserved in (third, first, second):
            one.send(Message("m", {}, reserved))
            kept.append(two.receive().arrays["x"])
        assert [int(array.max()) for array in kept] == [2, 0, 1]
        # There was room for two of them.
        assert [_lies_in_shared_memory(array) for array in kept] == [False, True, True]


def test_room_that_was_reserved_and_given_back_is_used_again() -> None:
    shape = {"x": TypedShape(np.dtype("uint8"), (900_000,))}
    with local_pair(arena_bytes=1 << 20) as (one, two):
        one.give_back(one.reserve(shape))
        reserved = one.reserve(shape)
        with pytest.raises(InputError, match="cannot be sent"):
            one.send(Message("m", {"x": object()}, reserved))  # type: ignore[dict-item]
        reserved["x"][:] = 3
        one.send(Message("m", {}, reserved))
        one.give_back(reserved)
        other = one.reserve(shape)
        other["x"][:] = 4
        array = two.receive().arrays["x"]
        assert _lies_in_shared_memory(array)
        assert int(array.max()) == 3


@pytest.mark.parametrize("speaks", [True, False])
def test_large_messages_come_whole_with_words_and_without(
    speaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far more than the memory holds, so that places come back either way."""
    monkeypatch.setattr(local, "can_speak", lambda: speaks)
    with local_pair(arena_bytes=4 << 20) as (one, two):
        for number in range(40):
            one.send(Message("m", {"n": number}, {"x": np.full((2, 400_000), number, np.uint8)}))
            if number % 3:
                one.send(Message("m", {"n": -1}, {"x": np.full((300, 700), number, np.int16).T}))
            first = two.receive()
            assert first.fields == {"n": number}
            assert bool((first.arrays["x"] == number).all())
            if number % 3:
                assert bool((two.receive().arrays["x"] == number).all())
            assert _lies_in_shared_memory(first.arrays["x"])


def test_who_fails_while_it_writes_is_lost_and_the_message_never_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "can_speak", lambda: True)
    with local_pair() as (one, two):
        one.send(Message("before"))
        monkeypatch.setattr(outgoing, "_copy", fail)
        with pytest.raises(KeyboardInterrupt):
            one.send(Message("m", {}, {"x": np.zeros(300_000, np.uint8)}))
        assert two.receive().kind == "before"
        with pytest.raises(PeerLost, match="ended in the middle of message 'm'"):
            two.receive()


def test_who_is_stopped_while_it_writes_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()
    monkeypatch.setattr(local, "can_speak", lambda: True)
    quick = replace(WORKER, timing=replace(TIMING, silent_seconds=0.2))
    with local_pair(DRIVER, quick) as (one, two):
        monkeypatch.setattr(outgoing, "_copy", lambda *_: is_over.wait(30))
        message = Message("m", {}, {"x": np.zeros(300_000, np.uint8)})
        writing = threading.Thread(target=one.send, args=(message,))
        writing.start()
        with pytest.raises(PeerSilent, match="stopped in the middle of message 'm'"):
            two.receive()
        is_over.set()
        writing.join()


def test_arrays_that_are_kept_stay_as_they_are_and_the_rest_goes_over_the_socket() -> None:
    with local_pair(arena_bytes=1 << 19) as (one, two):
        kept = []
        for number in range(6):
            one.send(Message("m", {}, {"x": np.full(150_000, number, np.uint8)}), timeout=10)
            kept.append(two.receive().arrays["x"])
        assert [int(array[0]) for array in kept] == list(range(6))
        assert [bool((array == array[0]).all()) for array in kept] == [True] * 6
        assert [_lies_in_shared_memory(array) for array in kept] == [True] * 3 + [False] * 3


def test_a_message_larger_than_the_memory_goes_over_the_socket() -> None:
    with local_pair(arena_bytes=1 << 16) as (one, two):
        values = np.arange(500_000)
        thread = threading.Thread(target=one.send, args=(Message("m", {}, {"x": values}),))
        thread.start()
        assert np.array_equal(two.receive().arrays["x"], values)
        thread.join()


def test_arrays_outlive_the_channel() -> None:
    with local_pair() as (one, two):
        one.send(Message("m", {}, {"x": np.arange(100_000)}))
        array = two.receive().arrays["x"]
    assert array[-1] == 99_999


def test_the_shared_memory_cannot_be_written_by_the_reader() -> None:
    with local_pair() as (one, two):
        one.send(Message("m", {}, {"x": np.arange(100_000)}))
        array = two.receive().arrays["x"]
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (Identity("a", version="1.0"), Identity("b", version="1.1"), "runs Banyan 1.. and"),
        (Identity("a", plan="aaaa"), Identity("b", plan="bbbb"), "carries out plan .... and"),
    ],
)
def test_workers_that_do_not_fit_refuse_each_other_on_both_sides(
    first: Identity, second: Identity, words: str
) -> None:
    a, b = local_sockets()
    errors: list[BanyanError] = []

    def open_end(end: socket.socket, identity: Identity) -> None:
        try:
            open_local(end, Conditions(identity, TIMING)).close()
        except BanyanError as error:
            errors.append(error)

    thread = threading.Thread(target=open_end, args=(a, first))
    thread.start()
    open_end(b, second)
    thread.join()
    assert [type(error) for error in errors] == [PeerRefused, PeerRefused]
    with pytest.raises(PeerRefused, match=words):
        raise errors[0]


def test_one_worker_with_a_plan_and_one_without_fit() -> None:
    planned = replace(WORKER, identity=Identity("worker", plan="aaaa"))
    with local_pair(DRIVER, planned) as (one, two):
        one.send(Message("here is your plan"))
        assert two.receive().kind == "here is your plan"


@pytest.mark.parametrize(
    ("words_of_the_other", "error"),
    [
        (b"", PeerLost),
        (b"GET / HTTP/1.1\r\n\r\n", DamagedMessage),
        (b"BNYM\x09\0\0\0" + bytes(8), DamagedMessage),
        (b"BNYM", MessageLate),
    ],
)
def test_something_else_at_the_other_end_is_said(
    words_of_the_other: bytes, error: type[BanyanError]
) -> None:
    quick = Conditions(Identity("driver"), Timing(opening_seconds=0.2))
    a, b = local_sockets()
    with b:
        b.sendall(words_of_the_other)
        if error is PeerLost:
            b.close()
        with pytest.raises(error):
            open_local(a, quick)
    assert a.fileno() == -1


def _open_descriptors() -> set[tuple[str, str]]:
    """Number and target of each: those that other tests leave may go at any time, not come."""
    gc.collect()
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.add((link.name, str(link.readlink())))
    return found


def test_nothing_stays_open_after_a_close() -> None:
    descriptors, threads = _open_descriptors(), set(threading.enumerate())
    for _ in range(3):
        with local_pair() as (one, two):
            one.send(Message("m", {}, {"x": np.arange(100_000)}))
            two.receive()
    assert _open_descriptors() - descriptors == set()
    assert set(threading.enumerate()) - threads == set()


def test_the_memory_must_be_sealed_against_shortening() -> None:
    a, b = local_sockets()
    descriptor = os.memfd_create("unsealed")
    with contextlib.closing(b):
        os.ftruncate(descriptor, 8192)
        offer = b"BNYM" + PROTOCOL.to_bytes(4, "little") + (8192).to_bytes(8, "little")
        socket.send_fds(b, [offer], [descriptor])
        os.close(descriptor)
        with pytest.raises(DamagedMessage, match="not 8192 sealed bytes"):
            open_local(a, DRIVER)
