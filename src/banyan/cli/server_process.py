"""Run `banyan serve` as a child process; used by the demo and by `banyan chat`.

Owns the child's life: it is always stopped, also when the caller fails or is killed (the child
watches its standard input, which closes with the caller).
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from banyan.client import Client
from banyan.foundation.errors import EngineStopped, EnvironmentProblem

_POLL_SECONDS = 0.03
_STOP_SECONDS = 15.0
_LISTENING = "Listening on "


@contextmanager
def started_server(
    arguments: Sequence[str], *, on_loading: Callable[[str], None] | None = None
) -> Iterator[str]:
    """Start a server on a free port, lend its address once it is ready, stop it afterwards.

    Raises:
        EngineStopped: it ended before it was ready; the sentence is its own.
    """
    command = [sys.executable, "-P", "-m", "banyan.cli.main", "serve", *arguments]
    command += ["--port", "0", "--until-input-ends"]
    # A file, not a pipe: nobody reads along, and a full pipe would stop the server.
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # A Ctrl-C in the terminal is for the caller, who may only want to stop one answer.
            start_new_session=True,
        ) as process,
    ):
        try:
            url = _read_address(process, log)
            _wait_until_ready(process, Client(url), log, on_loading or (lambda _: None))
            yield url
        finally:
            _stop(process)


def _read_address(process: "subprocess.Popen[str]", log: IO[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(_LISTENING):
            return line.removeprefix(_LISTENING).strip()
    process.wait()
    raise _ended(log)


def _wait_until_ready(
    process: "subprocess.Popen[str]", client: Client, log: IO[str], show: Callable[[str], None]
) -> None:
    shown = ""
    while process.poll() is None:
        try:
            health = client.health()
        except EnvironmentProblem:  # between the port and the first answer
            time.sleep(_POLL_SECONDS)
            continue
        if health.status == "ready":
            return
        if health.detail != shown:
            shown = health.detail
            show(shown)
        time.sleep(_POLL_SECONDS)
    raise _ended(log)


def _ended(log: IO[str]) -> EngineStopped:
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    reason = lines[-1].removeprefix("error: ") if lines else "it said nothing"
    return EngineStopped(f"the server did not start: {reason}")


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
