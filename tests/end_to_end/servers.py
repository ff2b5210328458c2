"""Real servers on this machine: started on a free port, always stopped, their output kept."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from openai import AsyncOpenAI, OpenAI

_READY_SECONDS = 240.0
_STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    process: "subprocess.Popen[str]"
    url: str
    name: str
    log: Path
    clients: ExitStack = field(default_factory=ExitStack)

    def sdk(self) -> OpenAI:
        """Open a client that never tries twice, so that tests see every error.

        It is closed with the server at the latest: a connection left to the garbage collector
        warns in whatever test runs then.
        """
        client = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)
        return self.clients.enter_context(client)

    def async_sdk(self) -> AsyncOpenAI:
        """Open an asynchronous client that never tries twice."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def metric(self, name: str) -> float:
        """Read one number of `/metrics`."""
        text = httpx.get(f"{self.url}/metrics").text
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert found is not None, f"{name} is not in\n{text}"
        return float(found[1])

    def engine_process_id(self) -> int:
        """Find the engine: the server's only child."""
        number = self.process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        assert len(children) == 1, children
        return int(children[0])

    def newest_engine_process_id(self) -> int:
        """Find the engine that was started last."""
        number = self.process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        return max(int(child) for child in children)

    def running(self) -> float:
        """Count the requests that are being computed."""
        text = httpx.get(f"{self.url}/metrics").text
        found = re.search(r"^(?:vllm:num|banyan)_requests_running(?:\{.*?\})? (\S+)$", text, re.M)
        return 0.0 if found is None else float(found[1])

    def stop(self) -> int:
        """Ask the server to stop and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)


def serve_command(model: str, *options: str, port: int = 0) -> list[str]:
    """Return the command line of a server."""
    command = [sys.executable, "-m", "banyan.cli.main", "serve", model]
    return [*command, "--port", str(port), *options]


@contextmanager
def running_server(
    model: str, options: Sequence[str] = (), *, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a server, lend it once it is ready, stop it whatever happens."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as sink:
            process = subprocess.Popen(
                serve_command(model, *options),
                stdout=sink,
                stderr=sink,
                text=True,
                env=os.environ | dict(environment or {}),
            )
        try:
            found = _wait_until_ready(process, log)
            with ExitStack() as clients:
                yield Server(process, found[2], found[1], log, clients)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until(happens: str, probe: object, *, seconds: float = 60.0) -> None:
    """Wait until `probe()` is true; fail saying what did not happen."""
    assert callable(probe)
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline, f"{happens}: not within {seconds} s"
        time.sleep(0.02)


def _wait_until_ready(process: "subprocess.Popen[str]", log: Path) -> "re.Match[str]":
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        found = re.search(r"^Serving (.*) at (\S+)$", log.read_text(), re.MULTILINE)
        if found is not None:
            return found
        assert process.poll() is None, f"the server ended:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"the server is not ready:\n{log.read_text()}"
        time.sleep(0.05)
