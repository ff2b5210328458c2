"""Start our own server on a free port, lend its address and process, and stop it."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OurServer:
    """A server that answers: its address, and the number of the process that serves HTTP."""

    url: str
    process_id: int


@asynccontextmanager
async def our_server(model: str, *options: str) -> AsyncIterator[OurServer]:
    """Serve a model with some options of `banyan serve`.

    Raises:
        SystemExit: it ended before it was ready; with all that it said.
    """
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "banyan.cli.main", "serve", model, "--port", "0", *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        assert process.stdout is not None
        try:
            url = ""
            while not url:
                line = (await process.stdout.readline()).decode()
                if not line:
                    log.seek(0)
                    raise SystemExit(f"the server did not start:\n{log.read().decode()}")
                if line.startswith("Serving "):
                    url = line.rsplit(" ", 1)[1].strip()
            yield OurServer(url, process.pid)
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
