"""`banyan worker` as a process that is started again when it dies, as a service manager does it."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path


class FarWorker:
    """One worker that listens on a port of its own."""

    def __init__(self, secret: Path) -> None:
        self._secret = secret
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    async def start(self) -> None:
        """Start it; again on the same port after a death."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "banyan.cli.main", "worker", "--device", "cpu"),
            *("--listen", f"127.0.0.1:{self.port}", "--secret", str(self._secret)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        found = re.search(r"port (\d+)", line)
        if found is None:
            raise SystemExit(f"the worker did not start: {line!r}")
        self.port = int(found[1])

    def send(self, number: signal.Signals) -> None:
        """Kill it, stop it, or let it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    async def close(self) -> None:
        """End it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def far_worker(secret: Path) -> AsyncIterator[FarWorker]:
    """Lend a worker that listens."""
    worker = FarWorker(secret)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.close()
