"""A backend that says what a test tells it to, and an application in front of it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx

from banyan.engine.events import EngineStatistics, TokenEvent, TokenLogprob
from banyan.engine.fake import FakeTokenizer
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.process.status import EngineStatus, ModelFacts
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speech.transcript import Transcript, TranscriptionOptions
from banyan.gateway.app import create_app
from banyan.gateway.services import GatewaySettings
from banyan.gateway.text import PromptText, plain_chat
from banyan.models.chat_rendering import ChatRendering
from banyan.models.tokenizer import EncodedPair
from banyan.models.vision.image_prompts import Vision
from banyan.models.vision.media import Media

READY = EngineStatus(
    "ready",
    "the engine is ready",
    ModelFacts(
        "decoder",
        64,
        {"device": "cpu"},
        max_adapters=8,
        cache={
            "block_size": "16",
            "cache_dtype": "int8",
            "enable_prefix_caching": "True",
            "swap_space": "0",
        },
    ),
)
ENCODER = EngineStatus("ready", "the engine is ready", ModelFacts("embedder", 16))
CLASSIFIER = EngineStatus("ready", "the engine is ready", ModelFacts("classifier", 16))
LOADING = EngineStatus("loading", "Packing weights", None)
KILLED = replace(READY, state="stopped", detail="the engine process was killed by signal 9")


class ScriptedBackend:
    """Answers every prompt with the same pieces of text, one token each.

    Attributes:
        pieces: the answer.
        failure: raised after the pieces instead of an end.
        pause_forever: hang after the pieces instead of an end.
        seen: prompts and options of all requests so far.
        num_open: requests begun and not yet ended, finished or closed.
    """

    def __init__(
        self,
        pieces: Sequence[str] = ("Hel", "lo"),
        *,
        status: EngineStatus = READY,
        failure: Exception | None = None,
        pause_forever: bool = False,
    ) -> None:
        self.pieces = pieces
        self.failure = failure
        self.pause_forever = pause_forever
        self.seen: list[tuple[tuple[int, ...], SamplingOptions]] = []
        self.contexts: list[RequestContext] = []
        self.callers: list[str] = []
        self.media: list[tuple[Media, ...]] = []
        self.changes: list[tuple[str, str, bool]] = []
        self.num_open = 0
        self.finish_reason: Any = "stop"
        self._status = status

    def status(self) -> EngineStatus:
        return self._status

    def statistics(self) -> EngineStatistics | None:
        if self._status.model is None:
            return None
        return EngineStatistics(
            num_waiting=1,
            num_running=2,
            num_free_blocks=3,
            num_blocks=4,
            tokens_generated=5,
            tokens_prefilled=6,
            preemptions=7,
            num_steps=8,
            step_sizes=(3, 4, *(0,) * 10, 1, 0),
            step_tokens=9000,
            adapters_running=("french", "legal"),
            adapters_waiting=("legal",),
        )

    async def generate(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        options: SamplingOptions,
        context: RequestContext = ORDINARY,
        media: Sequence[Media] = (),
    ) -> AsyncGenerator[TokenEvent, None]:
        self.media.append(tuple(media))
        self.seen.append((tuple(prompt_token_ids), options))
        self.contexts.append(context)
        self.num_open += 1
        try:
            for position, text in enumerate(self.pieces):
                await asyncio.sleep(0)
                is_last = position == len(self.pieces) - 1 and self.failure is None
                for index in range(options.n):
                    yield TokenEvent(
                        request_id=request_id,
                        index=index,
                        token_ids=(ord("h"),),
                        text=text,
                        logprobs=_logprobs(options),
                        finish_reason=(
                            self.finish_reason if is_last and not self.pause_forever else None
                        ),
                        num_prompt_tokens=len(prompt_token_ids),
                        num_generated_tokens=position + 1,
                        stop_reason="a reason" if is_last else None,
                        num_cached_tokens=1,
                        prompt_logprobs=(
                            _prompt_logprobs(prompt_token_ids, options)
                            if position == 0 and index == 0
                            else None
                        ),
                    )
            if self.failure is not None:
                raise self.failure
            if self.pause_forever:
                await asyncio.Event().wait()
        finally:
            self.num_open -= 1

    async def load_adapter(self, name: str, path: str, *, replaces: bool = False) -> None:
        if self.failure is not None:
            raise self.failure
        self.changes.append((name, path, replaces))

    async def unload_adapter(self, name: str) -> None:
        self.changes.append((name, "", False))

    async def pool(
        self, request_id: str, prompts: Sequence[PoolingPrompt], *, caller: str = ""
    ) -> tuple[bytes, ...]:
        self.callers.append(caller)
        if self.failure is not None:
            raise self.failure
        return tuple(b"\x00\x00\x80\x3f\x00\x00\x00\xbf" for _ in prompts)  # 1.0, -0.5

    async def transcribe(
        self, request_id: str, sound: bytes, options: TranscriptionOptions, *, caller: str = ""
    ) -> Transcript:
        raise NotImplementedError


def _logprobs(options: SamplingOptions) -> tuple[TokenLogprob, ...] | None:
    if options.logprobs is None:
        return None
    top = ((ord("h"), -0.5), (200, float("-inf")))
    return (TokenLogprob(ord("h"), -0.5, top[: options.logprobs]),)


def _prompt_logprobs(
    prompt: Sequence[int], options: SamplingOptions
) -> tuple[TokenLogprob, ...] | None:
    if options.prompt_logprobs is None:
        return None
    top = ((ord("h"), -0.5),)[: options.prompt_logprobs]
    return tuple(TokenLogprob(token_id, -1.5, top, rank=3) for token_id in prompt[1:])


class BytePairs:
    """Joins two texts by a zero byte."""

    def encode(self, query: str, document: str, *, max_tokens: int) -> EncodedPair:
        first, second = query.encode(), document.encode()
        ids = (*first, 0, *second)[:max_tokens]
        return EncodedPair(ids, (*(0 for _ in first), 0, *(1 for _ in second))[:max_tokens])


def seeing_chat(messages: Sequence[Mapping[str, Any]], rendering: ChatRendering) -> str:
    """Render a conversation with a zero byte for each picture."""
    shown = [
        message
        if isinstance(message["content"], str)
        else {
            **message,
            "content": "|".join(part.get("text", "\0") for part in message["content"]),
        }
        for message in messages
    ]
    return plain_chat(shown, rendering)


def connect(
    backend: ScriptedBackend, *, vision: Vision | None = None, **settings: Any
) -> httpx.AsyncClient:
    """Open a client of an application in this process."""
    render = plain_chat if vision is None else seeing_chat
    chosen = GatewaySettings(model_name="tiny", created=7, **settings)
    app = create_app(backend, PromptText(FakeTokenizer(), render, BytePairs(), vision), chosen)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://banyan")


def post(
    path: str,
    body: Any,
    *,
    backend: ScriptedBackend | None = None,
    vision: Vision | None = None,
    **settings: Any,
) -> httpx.Response:
    """Post one body (JSON, or raw bytes) and return the reply."""

    async def exchange() -> httpx.Response:
        async with connect(backend or ScriptedBackend(), vision=vision, **settings) as client:
            if isinstance(body, bytes):
                headers = {"content-type": "application/json"}
                return await client.post(path, content=body, headers=headers)
            return await client.post(path, json=body)

    return asyncio.run(exchange())


def get(path: str, *, backend: ScriptedBackend | None = None) -> httpx.Response:
    """Get one path and return the reply."""

    async def exchange() -> httpx.Response:
        async with connect(backend or ScriptedBackend()) as client:
            return await client.get(path)

    return asyncio.run(exchange())


def chat_body(**fields: Any) -> dict[str, Any]:
    """Return the body of a chat request with one message."""
    return {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]} | fields


def completion_body(**fields: Any) -> dict[str, Any]:
    """Return the body of a completion request."""
    return {"model": "tiny", "prompt": "Hi"} | fields
