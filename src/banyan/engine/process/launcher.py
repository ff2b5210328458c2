"""Start an engine process, talk to it, and say why it ended.

Owns one incarnation: the operating system's process, its private socket and its folder. Never
restarts anything; `client` does. The process is a fresh interpreter, not a fork: locks and
threads of the API process must not be copied into it.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path
from typing import cast

import zmq
import zmq.asyncio

from banyan.engine.process.messages import (
    Command,
    EngineSettings,
    Prepare,
    Report,
    Start,
    Stop,
    decode_report,
    encode,
)
from banyan.foundation.errors import EnvironmentProblem

_STOP_SECONDS = 5.0


class EngineProcess:
    """A running engine process; made by `launch`, ended by `close`."""

    def __init__(
        self,
        process: Process,
        socket: zmq.asyncio.Socket,
        context: zmq.asyncio.Context,
        folder: Path,
    ) -> None:
        self._process = process
        self._socket = socket
        self._context = context
        self._folder = folder

    @property
    def process_id(self) -> int:
        """The operating system's number of the process."""
        return self._process.pid

    async def prepare(self, settings: EngineSettings) -> None:
        """Let the process get ready for what it may be told to load; may be called again."""
        await self._socket.send(encode(Prepare(settings)))

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.returncode is None

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended the process, so that it could say nothing of it."""
        return self._process.returncode is not None and self._process.returncode < 0

    async def begin(self, settings: EngineSettings) -> None:
        """Wait until the process is there to listen and tell it what to load."""
        await self._socket.send(encode(Start(settings)))

    def send(self, command: Command) -> None:
        """Queue a command; never waits, and a process that is gone just does not read it."""
        # Without a high-water mark this fails only when nobody is at the other end.
        sent = cast("asyncio.Future[None]", self._socket.send(encode(command), zmq.NOBLOCK))
        if sent.done():  # otherwise it queues behind `begin`, and goes with the socket
            with suppress(zmq.Again):
                sent.result()

    async def receive(self) -> Report:
        """Wait for the next report."""
        report: Report = decode_report(await self._socket.recv())
        return report

    async def wait(self) -> str:
        """Wait for the end of the process and say how it ended."""
        return describe_exit(await self._process.wait())

    def kill(self) -> None:
        """End the process at once, and with it a compiler that it may have started."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """End the process, politely first, and remove its socket."""
        if self._process.returncode is None:
            self.send(Stop())
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
            except TimeoutError:
                self.kill()
                await self._process.wait()
        _clean_up(self._socket, self._context, self._folder)


async def launch() -> EngineProcess:
    """Start an engine process; it waits for `EngineProcess.begin`, perhaps prepared.

    Raises:
        OSError: the operating system starts no process.
        EnvironmentProblem: there is no place for the socket.
    """
    folder = Path(tempfile.mkdtemp(prefix="banyan-"))  # readable by this user only
    endpoint = f"ipc://{folder / 'engine'}"
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.PAIR)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    try:
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise EnvironmentProblem(
                f"no socket can be made at {folder} ({os.strerror(error.errno or 0)}); "
                "set TMPDIR to a folder with a short path"
            ) from error
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "banyan.engine.process.loop",
            endpoint,
            stdin=asyncio.subprocess.PIPE,
            # A Ctrl-C in the terminal is for the API process, which drains its streams first.
            start_new_session=True,
        )
    except BaseException:
        _clean_up(socket, context, folder)
        raise
    return EngineProcess(process, socket, context, folder)


def _clean_up(socket: zmq.asyncio.Socket, context: zmq.asyncio.Context, folder: Path) -> None:
    socket.close(linger=0)
    context.term()
    shutil.rmtree(folder, ignore_errors=True)


def describe_exit(code: int) -> str:
    """Say how a process ended, from its return code (negative: a signal's number)."""
    if code >= 0:
        return f"the engine process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"the engine process was killed by signal {-code} ({name})"
