"""Slow a process down from outside: stop it for a share of every two milliseconds.

    python -m benchmarks.throttle PROCESS SPEED

Ends with the process, or when it is ended itself; then the process goes on at full speed. Periods
are short beside what is timed, so that a stopped process looks like a slow one and not like a
jerky one.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PERIOD_SECONDS = 2e-3


def throttle(process: int, speed: float) -> None:
    """Let a process run for `speed` of the time, until it is gone or this one is ended."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    began = time.monotonic()
    with suppress(ProcessLookupError):
        while not ended:
            os.kill(process, signal.SIGSTOP)
            _sleep_until(began + (1 - speed) * PERIOD_SECONDS)
            os.kill(process, signal.SIGCONT)
            began += PERIOD_SECONDS
            _sleep_until(began)
        os.kill(process, signal.SIGCONT)


def _sleep_until(moment: float) -> None:
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)


@contextmanager
def throttled(process: int, speed: float) -> Iterator[None]:
    """A process is slow as long as the context is open; at speed 1 nothing is done."""
    if speed >= 1:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.throttle", str(process), str(speed)]
    beside = subprocess.Popen(command)
    try:
        yield
    finally:
        beside.terminate()
        beside.wait()


if __name__ == "__main__":
    throttle(int(sys.argv[1]), float(sys.argv[2]))
