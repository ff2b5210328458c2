"""The thread that says "I am alive" while a worker computes.

Owns the thread. Programs run without Python's global lock, so it beats through the longest step.
"""

import threading
import weakref
from typing import Protocol


class Beating(Protocol):
    """What has a heart."""

    def beat(self) -> bool:
        """Send a beat; False when there is nobody to send to any more."""
        ...


class Heart:
    """Calls `beat` again and again until it is stopped, or its owner is gone."""

    def __init__(self, owner: Beating, seconds: float) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=_run,
            args=(weakref.ref(owner), seconds, self._stopped),
            name="banyan-heart",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=1.0)


def _run(owner: "weakref.ref[Beating]", seconds: float, stopped: threading.Event) -> None:
    while not stopped.wait(seconds):
        beating = owner()
        if beating is None or not beating.beat():
            return
        del beating
