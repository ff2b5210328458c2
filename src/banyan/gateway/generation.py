"""Run the prompts of one request and gather their answers.

Owns what chat and plain completions share: several prompts at once, failures, usage. Knows
tokens and text, not the shape of a reply.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from banyan.engine.events import TokenEvent, TokenLogprob
from banyan.engine.process.status import ModelFacts
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import EngineStopped
from banyan.gateway.errors import ApiError
from banyan.gateway.records import RequestRecord, observed
from banyan.gateway.replies.usage import PromptTokensDetails, Usage
from banyan.gateway.services import Services
from banyan.models.vision.media import Media

# Parts of several prompts that wait for their one reader.
_MOST_MERGED = 64


@dataclass(frozen=True, slots=True)
class Part:
    """New output of one answer; answers of prompt p are numbered p * n ... p * n + n - 1."""

    index: int
    event: TokenEvent


@dataclass(slots=True)
class Answer:
    """One answer, gathered part by part."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0

    def add(self, event: TokenEvent) -> None:
        """Append one event."""
        self.text += event.text
        self.token_ids.extend(event.token_ids)
        self.logprobs.extend(event.logprobs or ())
        self.prompt_logprobs = event.prompt_logprobs or self.prompt_logprobs
        self.finish_reason = event.finish_reason
        self.stop_reason = event.stop_reason
        self.num_prompt_tokens = event.num_prompt_tokens
        self.num_cached_tokens = event.num_cached_tokens
        self.num_generated_tokens = event.num_generated_tokens

    def mean_logprob(self) -> float:
        """Log probability per token, by which the best of several answers are chosen."""
        return sum(entry.logprob for entry in self.logprobs) / max(1, len(self.logprobs))


class Answers:
    """All answers of a request, in order of their index."""

    def __init__(self, *, num_prompts: int, num_choices: int) -> None:
        self._num_choices = num_choices
        self.items = [Answer() for _ in range(num_prompts * num_choices)]

    def add(self, part: Part) -> None:
        """Append one part to its answer."""
        self.items[part.index].add(part.event)

    def usage(self) -> Usage:
        """Sum up the tokens; a prompt counts once however many answers it has."""
        firsts = self.items[:: self._num_choices]
        prompt = sum(answer.num_prompt_tokens for answer in firsts)
        completion = sum(answer.num_generated_tokens for answer in self.items)
        cached = sum(answer.num_cached_tokens for answer in firsts)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
        )

    def best(self, num_kept: int) -> list[Answer]:
        """Return the likeliest answers of each prompt, best first; all in order if all are kept."""
        if num_kept == self._num_choices:
            return self.items
        kept = []
        for start in range(0, len(self.items), self._num_choices):
            of_prompt = self.items[start : start + self._num_choices]
            kept += sorted(of_prompt, key=Answer.mean_logprob, reverse=True)[:num_kept]
        return kept


def run_prompts(
    services: Services,
    prompts: Sequence[Sequence[int]],
    options: Sequence[SamplingOptions],
    *,
    request_id: str,
    arrived: float,
    context: RequestContext = ORDINARY,
    media: Sequence[Media] = (),
) -> AsyncGenerator[Part, None]:
    """Yield the parts of all answers as they come; closing the generator cancels the rest.

    `options` has one entry for each prompt, all with the same `n`; `media` are the images of a
    single one.

    Raises:
        BanyanError: as `Backend.generate`; ApiError when an answer fails midway.
    """
    streams = []
    for position, (prompt, choice) in enumerate(zip(prompts, options, strict=True)):
        events = services.backend.generate(
            f"{request_id}-{position}", prompt, choice, context, media
        )
        record = RequestRecord(choice, arrived, num_prompt_tokens=len(prompt))
        noted = observed(events, record, services.observers)
        streams.append(_numbered(noted, first_index=position * choice.n))
    return streams[0] if len(streams) == 1 else _merged(streams)


def cut_prompt(
    tokens: list[int], limit: int | None, *, model: ModelFacts, max_tokens: int | None
) -> list[int]:
    """Keep the last `limit` tokens of a prompt, as vLLM's `truncate_prompt_tokens` asks.

    -1 keeps as many as fit beside the answer; None keeps all.
    """
    if limit is None:
        return tokens
    if limit == -1:
        limit = max(1, model.max_model_len - (max_tokens or 1))
    return tokens[-limit:]


async def gather_answers(parts: AsyncGenerator[Part, None], answers: Answers) -> Answers:
    """Add all parts to `answers` and return them when the last one is there."""
    async with aclosing(parts):
        async for part in parts:
            answers.add(part)
    return answers


async def begun(parts: AsyncGenerator[Part, None]) -> AsyncGenerator[Part, None]:
    """Wait for the first part, so that a refusal still gets its own HTTP status."""
    first = await anext(parts)

    async def all_parts() -> AsyncGenerator[Part, None]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                yield part

    return all_parts()


async def _numbered(
    events: AsyncGenerator[TokenEvent, None], *, first_index: int
) -> AsyncGenerator[Part, None]:
    async with aclosing(events):
        async for event in events:
            if event.finish_reason == "error":
                raise ApiError(
                    500,
                    f"the answer failed: {event.stop_reason}",
                    kind="server_error",
                    code="generation_failed",
                )
            if event.finish_reason == "cancelled":
                raise EngineStopped("the request was cancelled by the server; send it again")
            yield Part(first_index + event.index, event)


async def _merged(streams: Sequence[AsyncGenerator[Part, None]]) -> AsyncGenerator[Part, None]:
    """Yield from all streams as parts come; the first failure ends all of them."""
    # A slow reader fills it, then the queues behind it, and is told so by the engine's client.
    queue: asyncio.Queue[Part | Exception | None] = asyncio.Queue(_MOST_MERGED)

    async def pump(stream: AsyncGenerator[Part, None]) -> None:
        try:
            async with aclosing(stream):
                async for part in stream:
                    await queue.put(part)
            await queue.put(None)
        except Exception as error:  # handed over whatever it is: the reader waits for it
            await queue.put(error)

    tasks = [asyncio.create_task(pump(stream)) for stream in streams]
    num_running = len(tasks)
    try:
        while num_running:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                num_running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
