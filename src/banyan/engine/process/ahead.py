"""Compile what the next engine will run, in a process of its own and behind all other work.

Started by `foresight` as `python -m banyan.engine.process.ahead`, with settings on its standard
input. What it compiles an engine that starts later finds in the cache.
"""

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from banyan.engine.process.messages import EngineSettings
from banyan.foundation.errors import BanyanError
from banyan.foundation.settings import Settings

_logger = logging.getLogger(__name__)

_BEHIND_ALL_OTHERS = 19


async def compile_ahead(settings: EngineSettings) -> None:
    """Compile the programs of a plan that this host would run; where that fails the log says why.

    Cancelling ends it.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "banyan.engine.process.ahead"),
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        await process.communicate(msgspec.msgpack.encode(settings))
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def run(settings: EngineSettings) -> int:
    """Compile in this process; the exit code."""
    from banyan.engine.starting.loading import compile_parts_of  # noqa: PLC0415  (heavy)

    machine = Settings(
        cache_directory=Path(settings.cache_directory),
        compiler_command=settings.compiler_command,
        offline=settings.offline,
        packed_cache_bytes=settings.packed_cache_bytes,
    )
    try:
        compile_parts_of(settings.model, settings.options, settings=machine)
    except BanyanError as error:
        _logger.warning("the next plan is not compiled ahead of time: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    os.nice(_BEHIND_ALL_OTHERS)
    sys.exit(run(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=EngineSettings)))
