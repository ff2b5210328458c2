"""`POST /v1/completions`.

Owns the shape of plain completions and their streams; several prompts share one request.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.engine.events import TokenLogprob
from banyan.engine.sampling import SamplingOptions
from banyan.engine.status import ModelFacts
from banyan.gateway.backend import TextModel
from banyan.gateway.body import read_body, unless_hung_up
from banyan.gateway.caller import request_context
from banyan.gateway.errors import refuse
from banyan.gateway.event_stream import EventStream
from banyan.gateway.generation import Answers, Part, begun, gather_answers, run_prompts
from banyan.gateway.logprobs import completion_logprobs
from banyan.gateway.replies.completions import Completion, CompletionChoice, CompletionLogprobs
from banyan.gateway.replies.usage import Usage
from banyan.gateway.sampling import completion_options
from banyan.gateway.services import Services, new_id, now_seconds
from banyan.gateway.structure import checked_structure
from banyan.gateway.wire.completions import CompletionRequest
from banyan.gateway.wire.parsing import parse_request


def completion_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()

    @router.post("/v1/completions")
    async def create_completion(request: Request) -> Response:
        return await _answer(services, request)

    return router


async def _answer(services: Services, request: Request) -> Response:
    arrived = time.perf_counter()
    body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
    asked = parse_request(body, CompletionRequest)
    if asked.stream_options is not None and not asked.stream:
        raise refuse("stream_options needs stream=true", parameter="stream_options")
    adapter = services.adapter_of(asked.model)
    context = request_context(asked, request, adapter=adapter)
    structure = await checked_structure(asked)
    options = completion_options(asked, services.settings.sampling_defaults, structure)
    model = services.ready_model("decoder")
    prompts = await services.encode(
        asked.prompt, field_name="prompt", limit=services.settings.max_prompts
    )
    services.check_answers(num_prompts=len(prompts), num_choices=options.n)
    for prompt in prompts:
        services.check_length(prompt, model=model, field_name="prompt")

    reply = _CompletionReply(new_id("cmpl"), now_seconds(), asked.model, services.text)
    choices = [_within_context(asked, options, prompt, model) for prompt in prompts]
    parts = run_prompts(
        services, prompts, choices, request_id=reply.request_id, arrived=arrived, context=context
    )
    answers = Answers(num_prompts=len(prompts), num_choices=options.n)
    if asked.stream:
        with_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        started = await unless_hung_up(request.receive, begun(parts))
        return EventStream(reply.chunks(started, answers, with_usage=with_usage))
    finished = await unless_hung_up(request.receive, gather_answers(parts, answers))
    return Response(reply.completion(finished), media_type="application/json")


def _within_context(
    asked: CompletionRequest, options: SamplingOptions, prompt: Sequence[int], model: ModelFacts
) -> SamplingOptions:
    """Cut OpenAI's default length, which nobody asked for, to what is left of the context."""
    room = model.max_model_len - len(prompt)
    if asked.max_tokens is not None or options.max_tokens is None or options.max_tokens <= room:
        return options
    return replace(options, max_tokens=room)


@dataclass(frozen=True, slots=True)
class _CompletionReply:
    """Turns answers into the reply or the stream of one request."""

    request_id: str
    created: int
    model: str
    text: TextModel

    def completion(self, answers: Answers) -> bytes:
        choices = [
            CompletionChoice(
                index=index,
                text=answer.text,
                logprobs=self._logprobs(answer.logprobs, first_offset=0),
                finish_reason=answer.finish_reason,
            )
            for index, answer in enumerate(answers.items)
        ]
        return self._encode(choices, answers.usage())

    async def chunks(
        self, parts: AsyncGenerator[Part, None], answers: Answers, *, with_usage: bool
    ) -> AsyncGenerator[bytes, None]:
        no_usage = None if with_usage else msgspec.UNSET
        # Counted by tokens, as in a whole reply: their text may be held back for a while.
        offsets = [0] * len(answers.items)
        async with aclosing(parts):
            async for part in parts:
                event = part.event
                answers.add(part)
                if event.text or event.logprobs or event.finish_reason is not None:
                    logprobs = self._logprobs(
                        event.logprobs or (), first_offset=offsets[part.index]
                    )
                    if logprobs is not None:
                        offsets[part.index] += sum(map(len, logprobs.tokens))
                    choice = CompletionChoice(
                        index=part.index,
                        text=event.text,
                        logprobs=logprobs,
                        finish_reason=event.finish_reason,
                    )
                    yield self._encode([choice], no_usage)
        if with_usage:
            yield self._encode([], answers.usage())

    def _encode(
        self, choices: list[CompletionChoice], usage: Usage | None | msgspec.UnsetType
    ) -> bytes:
        return msgspec.json.encode(
            Completion(
                id=self.request_id,
                created=self.created,
                model=self.model,
                choices=choices,
                usage=usage,
            )
        )

    def _logprobs(
        self, tokens: Sequence[TokenLogprob], *, first_offset: int
    ) -> CompletionLogprobs | None:
        if not tokens:
            return None
        return completion_logprobs(tokens, self.text, first_offset=first_offset)
