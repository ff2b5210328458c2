"""A thin OpenAI-compatible front of OpenVINO GenAI's continuous batching.

OpenVINO's own model server is no Python package. This front does as little as it can: one thread
adds requests and steps the pipeline, an event loop reads requests and writes each token as soon as
its step is over. Only streamed completions are served. It runs in OpenVINO's own environment and
needs nothing beside `openvino_genai` and `tokenizers`.
"""

import argparse
import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Wish:
    """One request: tokens, most tokens of the answer, and who hears of new ones (None: the end)."""

    token_ids: list[int]
    max_tokens: int
    hear: Callable[[int | None], None]


class Handle(Protocol):
    """What OpenVINO gives for a request."""

    def can_read(self) -> bool:
        """Whether there are new tokens."""

    def read(self) -> dict[int, Any]:
        """New tokens by answer."""


class Pipeline(Protocol):
    """Adds requests and steps; OpenVINO's pipeline behind `open_pipeline`, or a test's."""

    def add(self, number: int, wish: Wish) -> Handle:
        """Take a request in."""

    def step(self) -> None:
        """Compute one step of all requests."""


class Stepper(threading.Thread):
    """Steps the pipeline while there are requests."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(daemon=True)
        self._pipeline = pipeline
        self._waiting: list[Wish | None] = []
        self._running: list[tuple[Wish, Handle, list[int]]] = []
        self._changed = threading.Condition()

    def put(self, wish: Wish | None) -> None:
        """Hand over a request; None ends the thread."""
        with self._changed:
            self._waiting.append(wish)
            self._changed.notify()

    def run(self) -> None:
        """Add, step and read until told to end."""
        numbers = count()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting or self._running))
                new, self._waiting = self._waiting, []
            for wish in new:
                if wish is None:
                    return
                self._running.append((wish, self._pipeline.add(next(numbers), wish), []))
            self._pipeline.step()
            self._running = [one for one in self._running if self._tell(*one)]

    def _tell(self, wish: Wish, handle: Handle, told: list[int]) -> bool:
        """Pass new tokens on; whether there will be more."""
        while len(told) < wish.max_tokens and handle.can_read():
            for output in handle.read().values():
                for token_id in output.generated_ids:
                    told.append(token_id)
                    wish.hear(token_id)
        if len(told) < wish.max_tokens:
            return True
        wish.hear(None)
        return False


@dataclass(frozen=True, slots=True)
class Front:
    """The HTTP side."""

    stepper: Stepper
    encode: Callable[[str], list[int]]
    decode: Callable[[int], str]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's one request."""
        words = (await reader.readline()).split()
        length = 0
        while (line := (await reader.readline()).strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        body = await reader.readexactly(length)
        if words[1:2] == [b"/health"]:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif words[1:2] == [b"/v1/completions"]:
            await self._complete(json.loads(body), writer)
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def _complete(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        tokens: asyncio.Queue[int | None] = asyncio.Queue()

        def hear(token_id: int | None) -> None:
            loop.call_soon_threadsafe(tokens.put_nowait, token_id)

        prompt = self.encode(asked["prompt"])
        self.stepper.put(Wish(prompt, asked["max_tokens"], hear))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        writer.write(b"Connection: close\r\n\r\n")
        num_written = 0
        while (token_id := await tokens.get()) is not None:
            num_written += 1
            _event(writer, {"choices": [{"index": 0, "text": self.decode(token_id)}]})
            await writer.drain()
        usage = {"prompt_tokens": len(prompt), "completion_tokens": num_written}
        _event(writer, {"choices": [], "usage": usage})
        writer.write(b"data: [DONE]\n\n")


def _event(writer: asyncio.StreamWriter, fields: dict[str, Any]) -> None:
    writer.write(b"data: " + json.dumps(fields).encode() + b"\n\n")


def open_pipeline(model: Path, *, threads: int, together: int, cache_gigabytes: int) -> Pipeline:
    """OpenVINO's continuous batching on this processor."""
    import numpy as np  # noqa: PLC0415  (of OpenVINO's environment)
    import openvino  # noqa: PLC0415
    import openvino_genai as genai  # type: ignore[import-not-found]  # noqa: PLC0415  (as above)

    scheduling = genai.SchedulerConfig()
    scheduling.cache_size = cache_gigabytes
    scheduling.max_num_seqs = together
    scheduling.dynamic_split_fuse = True
    properties = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    made = genai.ContinuousBatchingPipeline(str(model), scheduling, "CPU", properties)

    class OpenVino:
        """The two calls, with greedy answers of a fixed length."""

        def add(self, number: int, wish: Wish) -> Handle:
            options = genai.GenerationConfig()
            options.max_new_tokens = wish.max_tokens
            options.ignore_eos = True
            options.do_sample = False
            tokens = openvino.Tensor(np.array([wish.token_ids], dtype=np.int64))
            handle: Handle = made.add_request(number, tokens, options)
            return handle

        def step(self) -> None:
            made.step()

    return OpenVino()


async def serve(front: Front, port: int) -> None:
    """Listen until the process is ended."""
    server = await asyncio.start_server(front.answer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Open the model and serve it."""
    from tokenizers import Tokenizer  # noqa: PLC0415  (of OpenVINO's environment)

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--together", type=int, default=64)
    parser.add_argument("--cache-gigabytes", type=int, default=4)
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    stepper = Stepper(
        open_pipeline(
            options.model,
            threads=options.threads,
            together=options.together,
            cache_gigabytes=options.cache_gigabytes,
        )
    )
    stepper.start()
    front = Front(
        stepper,
        lambda text: list(tokenizer.encode(text).ids),
        lambda token_id: str(tokenizer.decode([token_id])),
    )
    asyncio.run(serve(front, options.port))


if __name__ == "__main__":
    main()
