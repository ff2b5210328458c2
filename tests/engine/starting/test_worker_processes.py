"""Workers that are started ahead of time, employed, and seen off."""

import os
import socket
import time
from contextlib import closing

import pytest

from banyan.distributed.greeting import Identity
from banyan.distributed.local import local_sockets, open_local
from banyan.distributed.opening import Conditions
from banyan.engine.starting.stopped import StopWatch
from banyan.engine.starting.worker_processes import (
    WaitingWorkers,
    WorkerProcess,
    start_worker,
    wait_for_employment,
)
from banyan.engine.starting.workers import WORKER_TIMING
from banyan.foundation.errors import DamagedMessage, PeerLost


class Process:
    """As much of a process as `employ` asks for."""

    pid = 0


def ends() -> tuple[WorkerProcess, socket.socket]:
    ours, theirs = local_sockets()
    return WorkerProcess(Process(), ours, StopWatch()), theirs  # type: ignore[arg-type]


def test_a_worker_hears_its_neighbours_and_gets_sockets_to_them() -> None:
    worker, theirs = ends()
    one, other = local_sockets()
    with worker.end, theirs, one, other:
        worker.employ({"cpu#1": one})
        heard = wait_for_employment(theirs)
        assert heard is not None
        assert list(heard) == ["cpu#1"]
        with socket.socket(fileno=heard["cpu#1"]) as copy:
            copy.sendall(b"hello")
        assert other.recv(5) == b"hello"


def test_a_worker_without_neighbours_is_told_so() -> None:
    worker, theirs = ends()
    with worker.end, theirs:
        worker.employ({})
        assert wait_for_employment(theirs) == {}


def test_a_worker_that_nobody_needs_is_told_by_the_end_of_its_socket() -> None:
    worker, theirs = ends()
    worker.end.close()
    with theirs:
        assert wait_for_employment(theirs) is None


def test_what_is_cut_short_is_no_employment() -> None:
    worker, theirs = ends()
    with theirs:
        worker.end.sendall(b"\x09\x00\x00\x00[]")
        worker.end.close()
        with pytest.raises(DamagedMessage, match="cut short"):
            wait_for_employment(theirs)


def test_a_worker_that_ended_while_it_waited_is_lost() -> None:
    worker, theirs = ends()
    theirs.close()
    with worker.end, pytest.raises(PeerLost, match="ended while it waited"):
        worker.employ({})


def test_one_that_waits_is_taken_once_and_one_that_died_is_replaced() -> None:
    with closing(WaitingWorkers()) as waiting:
        waiting.start(["cpu", "cpu#1"])
        first = waiting.take("cpu")
        try:
            waiting.start(["cpu#1"])
            second = waiting.take("cpu")
            dead = waiting._waiting["cpu#1"]
            os.killpg(dead.process.pid, 9)
            dead.process.wait()
            third = waiting.take("cpu#1")
            assert len({w.process.pid for w in (first, second, third, dead)}) == 4
        finally:
            for worker in (first, second, third):
                # Nobody employed it: it ends by itself.
                worker.end.close()
                assert worker.process.wait(60) == 0
                worker.see_off(answers=True)
    assert not waiting._waiting


@pytest.mark.wide
@pytest.mark.end_to_end
def test_a_worker_outlives_an_engine_that_is_stopped_for_longer_than_a_network_may_be_cut() -> None:
    stops = StopWatch()
    worker = start_worker("cpu", stops)
    worker.employ({})
    channel = open_local(worker.end, Conditions(Identity("the engine"), WORKER_TIMING))
    with closing(channel):
        channel._heart.stop()
        time.sleep(1.5 * WORKER_TIMING.silent_seconds)
        assert worker.is_alive
    worker.see_off(answers=True)
