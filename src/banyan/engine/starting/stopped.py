"""Which processes of this host were stopped, as by SIGSTOP, and will not go on by themselves.

The kernel says so of every process, whatever the machine is busy with: a slow one runs, sleeps or
waits for the disk, and is never taken for a stopped one. One that a debugger holds is let be. So is
one that is stopped and let go on all the time, to make it slow: it runs between two looks, and the
kernel counts how often it began or ceased to.
"""

import os
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

LOOK_SECONDS = 0.15


@dataclass(frozen=True, slots=True)
class StoppedLooks:
    """How often in a row each process was found stopped, without having run between. Pure.

    Attributes:
        most: so many looks in a row, and a process is given up.
        late_seconds: a look so long behind the last one says nothing: whoever looks was stopped
            itself, and perhaps whoever stopped both lets both go on.
        counts: process -> looks in a row that found it stopped where it had been stopped before.
        switches: process -> how often it had begun or ceased to run, when it was looked at last.
        looked_at: when, on the monotonic clock; None before the first look.
    """

    most: int = 3
    late_seconds: float = 3 * LOOK_SECONDS
    counts: Mapping[int, int] = field(default_factory=dict)
    switches: Mapping[int, int] = field(default_factory=dict)
    looked_at: float | None = None

    def seen(self, stopped: Mapping[int, int], now: float) -> "StoppedLooks":
        """One more look.

        Args:
            stopped: each process that is -> how often it has begun or ceased to run.
            now: on the monotonic clock.
        """
        is_late = self.looked_at is not None and now - self.looked_at > self.late_seconds
        before: Mapping[int, int] = {} if is_late else self.counts
        counts = {
            process: before.get(process, 0) + 1 if self.switches.get(process) == switches else 1
            for process, switches in stopped.items()
        }
        return replace(self, counts=counts, switches=dict(stopped), looked_at=now)

    @property
    def given_up(self) -> frozenset[int]:
        """Processes that stay stopped."""
        return frozenset(p for p, count in self.counts.items() if count >= self.most)


def stopped_among(processes: Iterable[int]) -> dict[int, int]:
    """Those that are stopped now -> how often each has begun or ceased to run."""
    found = {}
    for process in processes:
        facts = _facts(process)
        if facts.get("State", "").strip().startswith("T"):
            names = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
            found[process] = sum(int(facts.get(name, 0)) for name in names)
    return found


def _facts(process: int) -> dict[str, str]:
    """What the kernel says of a process; nothing where there is none."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return {name: said for name, _, said in (line.partition(":") for line in lines)}


class StopWatch:
    """Kills worker processes that were stopped, so that whoever waits for them hears of it.

    A thread looks as long as there is something to look at.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: frozenset[int] = frozenset()
        self._is_looking = False

    def watch(self, process: int) -> None:
        """Look at a process too: a child of this one that leads a group of its own."""
        with self._lock:
            self._processes |= {process}
            if not self._is_looking:
                self._is_looking = True
                threading.Thread(target=self._look, name="banyan-stop-watch", daemon=True).start()

    def forget(self, process: int) -> None:
        """Look at it no more; before anybody waits for its end, which frees its number."""
        with self._lock:
            self._processes -= {process}

    def _look(self) -> None:
        looks = StoppedLooks()
        while True:
            time.sleep(LOOK_SECONDS)
            with self._lock:
                if not self._processes:
                    self._is_looking = False
                    return
                looks = looks.seen(stopped_among(self._processes), time.monotonic())
                for process in looks.given_up:
                    with suppress(ProcessLookupError):
                        os.killpg(process, signal.SIGKILL)
