"""Compile what the next engine will run, in a process of its own and behind all other work.

Started by `foresight` as `python -m banyan.engine.process.ahead`, with settings on its standard
input, which closes when its parent dies: then it ends, with its compilers. What it compiles an
engine that starts later finds in the cache.
"""

import asyncio
import logging
import os
import signal
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path

import msgspec

from banyan.engine.process.messages import EngineSettings
from banyan.foundation.errors import BanyanError

_logger = logging.getLogger(__name__)

_BEHIND_ALL_OTHERS = 19
_LENGTH = struct.Struct("<I")


async def compile_ahead(settings: EngineSettings) -> None:
    """Compile the programs of a plan that this host would run; where that fails the log says why.

    Cancelling ends it.

    Raises:
        OSError: the operating system starts no process, or something killed it.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "banyan.engine.process.ahead"),
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        order = msgspec.msgpack.encode(settings)
        process.stdin.write(_LENGTH.pack(len(order)) + order)
        code = await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if code < 0:
        raise ChildProcessError(f"the process that compiles was killed by signal {-code}")


def run(settings: EngineSettings) -> int:
    """Compile in this process; the exit code."""
    from banyan.engine.starting.loading import compile_parts_of  # noqa: PLC0415  (heavy)

    try:
        compile_parts_of(settings.model, settings.options, settings=settings.of_machine())
    except BanyanError as error:
        _logger.warning("the next plan is not compiled ahead of time: %s", error)
        return 1
    return 0


def _end_with_parent() -> None:
    """Wait until nobody holds the other end of the input any more, and end all of this group."""
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _step_back() -> None:
    """Let all others go first.

    Linux shares cores between sessions before it looks at processes, so this one says it, too.
    """
    os.nice(_BEHIND_ALL_OTHERS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_BEHIND_ALL_OTHERS), encoding="ascii")


def main() -> int:
    """Take an order from standard input and carry it out; the exit code."""
    _step_back()
    # Unbuffered: a thread that waits in a buffer's lock would hold up the end of this process.
    with open(0, "rb", buffering=0, closefd=False) as source:
        (length,) = _LENGTH.unpack(source.read(_LENGTH.size))
        order = b""
        while len(order) < length:
            piece = source.read(length - len(order))
            if not piece:
                return 1
            order += piece
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return run(msgspec.msgpack.decode(order, type=EngineSettings))


if __name__ == "__main__":
    sys.exit(main())
