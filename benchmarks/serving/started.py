"""Start a server, lend its address once it answers, and stop it with everything it started."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from typing import IO

from benchmarks.slice import BenchmarkError

# vLLM compiles before it answers.
START_SECONDS = 600.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.2
_OK = 200


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str], port: int) -> Iterator[str]:
    """Run a server that listens on a port of this machine.

    Raises:
        BenchmarkError: it ended or did not answer `/health` in time; the sentence is its own.
    """
    # A file, not a pipe: nobody reads along, and a full pipe would stop the server.
    with tempfile.TemporaryFile("w+") as log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        except OSError as error:
            raise BenchmarkError(f"{command[0]} cannot be started: {error}") from error
        try:
            _wait_until_ready(process, port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(process)


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: IO[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchmarkError(f"the server ended before it answered: {_last_words(log)}")
        if _is_healthy(port):
            return
        time.sleep(_POLL_SECONDS)
    raise BenchmarkError(f"the server did not answer within {START_SECONDS:g} s")


def _is_healthy(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == _OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _last_words(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the whole process group: some servers leave workers behind."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
