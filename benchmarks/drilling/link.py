"""A TCP link that can be cut and mended, as a cable can: nothing is refused, nothing arrives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class CuttableLink:
    """Forwards connections to a port of this host."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._is_whole = asyncio.Event()
        self._is_whole.set()
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    def cut(self) -> None:
        """Let nothing through any more; connections stay open, new ones hear nothing."""
        self._is_whole.clear()

    def mend(self) -> None:
        """Let everything through again, also what was sent meanwhile."""
        self._is_whole.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until one side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            await self._is_whole.wait()
            there = await asyncio.open_connection("127.0.0.1", self._target_port)
        except (OSError, asyncio.CancelledError):
            writer.close()
            return
        pumps = [
            asyncio.create_task(self._pump(reader, there[1])),
            asyncio.create_task(self._pump(there[0], writer)),
        ]
        try:
            await asyncio.wait(pumps)
        except asyncio.CancelledError:
            for pump in pumps:
                pump.cancel()
        finally:
            for end in (writer, there[1]):
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                await self._is_whole.wait()
                writer.write(piece)
                await writer.drain()
        # The end of a connection does not come through a cut cable either.
        await self._is_whole.wait()
        with suppress(OSError):
            writer.write_eof()

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


@asynccontextmanager
async def cuttable_link(target_port: int) -> AsyncIterator[CuttableLink]:
    """Lend a link to a port of this host; `link.port` is its other end."""
    link = CuttableLink(target_port)
    server = await asyncio.start_server(link.connected, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        await link.close()
