"""Send a workload to a server and note when each piece of the answers comes.

Speaks HTTP itself, in one event loop with as little work per piece as can be: what is measured is
the server, and other clients spend more on a piece than a fast server does.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from urllib.parse import SplitResult, urlsplit

from banyan.cli.load.outcome import Outcome
from banyan.cli.load.workload import Ask
from banyan.foundation.errors import EnvironmentProblem, InputError

_LINE_LIMIT = 2**22
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Whom to ask.

    Attributes:
        url: where the API is, without "/v1".
        model: as the server calls it.
        chat: ask /v1/chat/completions instead of /v1/completions.
        key: for servers that want one.
        extra: more fields of every request; None leaves a field out.
        timeout_seconds: an answer that takes longer counts as failed.
    """

    url: str
    model: str
    chat: bool = False
    key: str | None = None
    extra: dict[str, Any] | None = None
    timeout_seconds: float = 600.0

    def address(self) -> SplitResult:
        """The parts of `url`; raises `InputError` when it is none."""
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            raise InputError(f"url={self.url!r} cannot be used; write http://HOST:PORT")
        return parts

    def request(self, ask: Ask) -> bytes:
        """The bytes of one request."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": ask.lengths.answer,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
        }
        said = (*ask.history, ask.prompt)
        if self.chat:
            roles = cycle(("user", "assistant"))
            body["messages"] = [
                {"role": role, "content": text} for role, text in zip(roles, said, strict=False)
            ]
        else:
            body["prompt"] = "\n".join(said)
        fields = body | (self.extra or {})
        told = {name: value for name, value in fields.items() if value is not None}
        content = json.dumps(told).encode()
        parts = self.address()
        path = parts.path.rstrip("/") + ("/v1/chat/completions" if self.chat else "/v1/completions")
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Content-Type: application/json",
            "Accept: text/event-stream",
            "Connection: close",
            f"Content-Length: {len(content)}",
        ]
        if self.key is not None:
            lines.append(f"Authorization: Bearer {self.key}")
        return "\r\n".join((*lines, "", "")).encode() + content


async def send_all(
    server: Server, asks: Sequence[Ask], *, max_concurrency: int | None = None
) -> list[Outcome]:
    """Send every request at its time, or later when too many are under way; outcomes in order.

    Raises:
        EnvironmentProblem: nobody listens at the address.
    """
    parts = server.address()
    try:
        _, writer = await _connect(parts)
    except OSError as error:
        raise EnvironmentProblem(f"no server answers at {server.url} ({error})") from error
    writer.close()
    turns = asyncio.Semaphore(max_concurrency or len(asks) or 1)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    ended = [asyncio.Event() for _ in asks]

    async def one(number: int, ask: Ask) -> Outcome:
        if ask.follows is None:
            await asyncio.sleep(max(0.0, begun + ask.at - loop.time()))
        else:
            # Also after an answer that failed: its reader asks on.
            await ended[ask.follows].wait()
            await asyncio.sleep(ask.at)
        async with turns:
            outcome = await _send(server, parts, ask, begun)
        ended[number].set()
        return outcome

    return await asyncio.gather(*(one(number, ask) for number, ask in enumerate(asks)))


async def _send(server: Server, parts: SplitResult, ask: Ask, begun: float) -> Outcome:
    loop = asyncio.get_running_loop()
    sent = loop.time()
    notes = _Notes(sent)
    writer = None
    try:
        async with asyncio.timeout(server.timeout_seconds):
            reader, writer = await _connect(parts)
            writer.write(server.request(ask))
            status, chunked = await _head(reader)
            if status != _OK:
                notes.problem = f"status {status}"
            else:
                async for line in _lines(reader, chunked=chunked):
                    notes.take(line, loop.time())
    except TimeoutError:
        notes.problem = "timeout"
    except EOFError:
        notes.problem = "cut off"
    except (OSError, ValueError) as error:
        notes.problem = type(error).__name__
    finally:
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    return notes.outcome(begun)


class _Notes:
    """What is known of one answer so far."""

    def __init__(self, sent: float) -> None:
        self._sent = sent
        self._pieces: list[float] = []
        self._num_tokens = self._num_prompt_tokens = self._num_cached_tokens = 0
        self._is_whole = False
        self.problem: str | None = None

    def take(self, line: bytes, now: float) -> None:
        """Read one line of the stream."""
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            self._is_whole = True
            return
        event = json.loads(data)
        if "error" in event:
            self.problem = "error in the stream"
            return
        if usage := event.get("usage"):
            self._num_tokens = usage.get("completion_tokens", 0)
            self._num_prompt_tokens = usage.get("prompt_tokens", 0)
            details = usage.get("prompt_tokens_details") or {}
            self._num_cached_tokens = details.get("cached_tokens") or 0
        choices = event.get("choices", ())
        if any(_has_text(choice) for choice in choices):
            self._pieces.append(now - self._sent)
        # Not every server ends a stream with [DONE].
        self._is_whole |= any(choice.get("finish_reason") for choice in choices)

    def outcome(self, begun: float) -> Outcome:
        """Sum up."""
        problem = self.problem or (None if self._is_whole else "cut off")
        return Outcome(
            sent=self._sent - begun,
            pieces=tuple(self._pieces),
            num_tokens=self._num_tokens or len(self._pieces),
            num_prompt_tokens=self._num_prompt_tokens,
            problem=problem,
            num_cached_tokens=self._num_cached_tokens,
        )


def _has_text(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    if delta.get("content") or delta.get("reasoning_content") or choice.get("text"):
        return True
    # A token of a plain completion whose text is empty, as that of an unused id is in llama.cpp.
    return "text" in choice and choice.get("finish_reason") is None


async def _connect(parts: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    return await asyncio.open_connection(parts.hostname, port, ssl=secure, limit=_LINE_LIMIT)


async def _head(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read up to the body: the status, and whether the body comes in chunks."""
    words = (await reader.readline()).split()
    if len(words) < 2 or not words[1].isdigit():
        raise EOFError
    status = int(words[1])
    chunked = False
    while (line := (await reader.readline()).strip()) != b"":
        name, _, value = line.partition(b":")
        chunked |= name.lower() == b"transfer-encoding" and b"chunked" in value.lower()
    return status, chunked


async def _lines(reader: asyncio.StreamReader, *, chunked: bool) -> AsyncIterator[bytes]:
    """Lines of the body, whatever chunks it comes in."""
    if not chunked:
        while line := await reader.readline():
            yield line
        return
    rest = b""
    while size := int((await reader.readline()).split(b";")[0] or b"0", 16):
        rest += await reader.readexactly(size)
        await reader.readexactly(2)
        *whole, rest = rest.split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest
