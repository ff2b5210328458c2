"""The next engine process: launched, with all it imports and its workers, before it is needed.

Owns that process until somebody takes it. Belongs to one event loop.
"""

import asyncio
import logging
from contextlib import suppress

from banyan.engine.process.launcher import EngineProcess, launch
from banyan.engine.process.messages import EngineSettings
from banyan.foundation.errors import EnvironmentProblem

_logger = logging.getLogger(__name__)

_SETTLING_SECONDS = 0.3
"""The engine that serves has the processor for itself at first: requests waited for it."""


class Standby:
    """One process that stands by.

    Args:
        is_kept: false lets none stand by, so that every start is from nothing.
    """

    def __init__(self, *, is_kept: bool) -> None:
        self._is_kept = is_kept
        self._is_closed = False
        self._process: EngineProcess | None = None
        self._preparing: asyncio.Task[None] | None = None

    def prepare(self, settings: EngineSettings) -> None:
        """Let a process stand by for these settings, soon."""
        if self._is_kept and not self._is_closed:
            if self._preparing is not None:
                self._preparing.cancel()
            self._preparing = asyncio.create_task(self._prepare(settings, self._preparing))

    async def take(self) -> EngineProcess:
        """The process that stands by, else one that is launched now.

        Raises:
            OSError: the operating system starts no process.
            EnvironmentProblem: there is no place for its socket.
        """
        await self._end_preparing()
        process, self._process = self._process, None
        if process is None:
            return await launch()
        if process.is_alive:
            return process
        await process.close()
        return await launch()

    async def close(self) -> None:
        """End the process that stands by; none will any more."""
        self._is_closed = True
        await self._end_preparing()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.close()

    async def _end_preparing(self) -> None:
        preparing, self._preparing = self._preparing, None
        if preparing is not None:
            preparing.cancel()
            with suppress(asyncio.CancelledError):
                await preparing

    async def _prepare(self, settings: EngineSettings, before: "asyncio.Task[None] | None") -> None:
        await _ended(before)
        await asyncio.sleep(_SETTLING_SECONDS)
        try:
            if self._process is not None and not self._process.is_alive:
                dead, self._process = self._process, None
                await dead.close()
            if self._process is None:
                # Not left half launched by whoever needs a process now.
                launching = asyncio.ensure_future(launch())
                try:
                    self._process = await asyncio.shield(launching)
                except asyncio.CancelledError:
                    self._process = await launching
                    raise
            await self._process.prepare(settings)
        except (OSError, EnvironmentProblem) as error:
            _logger.warning("no engine process stands by: %s", error)


async def _ended(task: "asyncio.Task[None] | None") -> None:
    """Wait for a task that was cancelled; also where this one is, for it may be launching still."""
    if task is None:
        return
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
