"""A stopped process is told from a slow one, and killed."""

import os
import signal
import subprocess
import sys
import time

from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.starting.stopped import StoppedLooks, StopWatch, stopped_among

SLOWS = (
    "import os, signal, sys, time\n"
    "while True:\n"
    "    os.kill(int(sys.argv[1]), signal.SIGSTOP); time.sleep(0.01)\n"
    "    os.kill(int(sys.argv[1]), signal.SIGCONT); time.sleep(0.002)\n"
)
SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")
WORKS = (sys.executable, "-c", "while True: pass")


def looked(*looks: tuple[set[int], float]) -> StoppedLooks:
    """Looks at processes that never run between two of them."""
    seen = StoppedLooks(most=3, late_seconds=0.5)
    for stopped, at in looks:
        seen = seen.seen(dict.fromkeys(stopped, 40), at)
    return seen


def test_a_process_is_given_up_after_three_looks_that_find_it_stopped() -> None:
    looks = [({7}, 0.0), ({7, 8}, 0.2), ({7, 8}, 0.4)]
    assert looked(*looks[:2]).given_up == frozenset()
    assert looked(*looks).given_up == {7}


def test_one_that_goes_on_between_two_looks_starts_from_nothing() -> None:
    assert looked(({7}, 0.0), ({7}, 0.2), (set(), 0.4), ({7}, 0.6)).given_up == frozenset()


def test_one_that_is_made_slow_runs_between_two_looks_and_is_let_be() -> None:
    seen = StoppedLooks(most=3, late_seconds=0.5)
    for look in range(9):
        seen = seen.seen({7: 40 + look, 8: 40}, 0.2 * look)
    assert seen.given_up == {8}


def test_looks_of_somebody_who_was_stopped_too_count_for_nothing() -> None:
    looks = [({7}, 0.0), ({7}, 0.2), ({7}, 60.0), ({7}, 60.2)]
    assert looked(*looks).given_up == frozenset()
    assert looked(*looks, ({7}, 60.4)).given_up == {7}


@given(
    st.lists(
        st.tuples(st.frozensets(st.integers(1, 3)), st.floats(0.01, 1.0)), min_size=1, max_size=12
    )
)
def test_whoever_is_given_up_was_stopped_at_each_of_the_last_three_looks_in_time(
    looks: list[tuple[frozenset[int], float]],
) -> None:
    seen, now = StoppedLooks(most=3, late_seconds=0.5), 0.0
    for stopped, waited in looks:
        now += waited
        seen = seen.seen(dict.fromkeys(stopped, 40), now)
    last = looks[-3:]
    in_time = len(last) == 3 and all(waited <= 0.5 for _, waited in last[1:])
    always = frozenset.intersection(*(stopped for stopped, _ in last))
    assert seen.given_up <= always
    if in_time:
        assert seen.given_up == always


def test_a_stopped_process_is_killed_and_a_busy_one_and_a_sleeping_one_are_let_be() -> None:
    watch = StopWatch()
    processes = [
        subprocess.Popen(command, start_new_session=True) for command in (SLEEPS, SLEEPS, WORKS)
    ]
    try:
        for process in processes:
            watch.watch(process.pid)
        os.kill(processes[0].pid, signal.SIGSTOP)
        assert processes[0].wait(30) == -signal.SIGKILL
        assert [process.poll() for process in processes[1:]] == [None, None]
    finally:
        for process in processes:
            watch.forget(process.pid)
            process.kill()
            process.wait()


def test_one_that_nobody_watches_any_more_stays_stopped() -> None:
    watch = StopWatch()
    process = subprocess.Popen(SLEEPS, start_new_session=True)
    try:
        watch.watch(process.pid)
        watch.forget(process.pid)
        os.kill(process.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not stopped_among([process.pid]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.7)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_process_that_is_no_more_is_not_stopped() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert stopped_among([process.pid]) == {}


def test_a_process_that_somebody_makes_slow_by_stopping_it_all_the_time_is_let_be() -> None:
    watch = StopWatch()
    slowed = subprocess.Popen(SLEEPS, start_new_session=True)
    slowing = subprocess.Popen([sys.executable, "-c", SLOWS, str(slowed.pid)])
    try:
        watch.watch(slowed.pid)
        time.sleep(1.2)
        assert (slowed.poll(), slowing.poll()) == (None, None)
    finally:
        watch.forget(slowed.pid)
        for process in (slowing, slowed):
            process.kill()
            process.wait()
