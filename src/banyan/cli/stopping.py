"""Signals and other wishes to stop: the first lets running answers finish, the second does not.

Owns the process's signal handlers while a server runs; a hang-up signal asks for the model to be
loaded anew.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from banyan.foundation.errors import EnvironmentProblem


class StopWish:
    """How often somebody asked to stop; made before there is an event loop that could wait."""

    def __init__(self) -> None:
        self._times = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = asyncio.Event()
        self._insisted = asyncio.Event()
        self._on_reload: Callable[[], None] | None = None

    def hear(self, signal_number: int, frame: object) -> None:
        """Take a signal, or any other wish."""
        self._times += 1
        self._tell()

    def hear_reload(self, signal_number: int, frame: object) -> None:
        """Take the wish for a fresh model; before the loop runs the model is fresh anyway."""
        if self._loop is not None and self._on_reload is not None:
            self._loop.call_soon_threadsafe(self._on_reload)

    def attach(self, *, on_reload: Callable[[], None] | None = None) -> None:
        """Tell those who wait in the running event loop, also of what was asked before."""
        self._loop = asyncio.get_running_loop()
        self._on_reload = on_reload
        self._tell()

    async def asked(self) -> None:
        """Wait for the first wish."""
        await self._asked.wait()

    async def insisted(self) -> None:
        """Wait for the second one."""
        await self._insisted.wait()

    def hear_end_of_input(self) -> None:
        """Take the end of standard input for a wish.

        Raises:
            EnvironmentProblem: it is closed or a file, and so nobody can tell when it ends.
        """
        loop = asyncio.get_running_loop()
        number = 0

        def read() -> None:
            if not os.read(number, 1024):
                loop.remove_reader(number)
                self.hear(0, None)

        try:
            loop.add_reader(number, read)
        except OSError as error:
            raise EnvironmentProblem(
                "--until-input-ends needs a pipe or a terminal as standard input; give one or "
                "leave the option out"
            ) from error

    def _tell(self) -> None:
        if self._loop is None or not self._times:
            return
        self._loop.call_soon_threadsafe(self._asked.set)
        if self._times > 1:
            self._loop.call_soon_threadsafe(self._insisted.set)


@contextmanager
def heard_signals() -> Iterator[StopWish]:
    """Take signals while the block runs, and leave the handlers as they were."""
    wish = StopWish()
    handlers = {
        signal.SIGINT: wish.hear,
        signal.SIGTERM: wish.hear,
        signal.SIGHUP: wish.hear_reload,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
