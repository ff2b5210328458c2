"""`POST /v1/completions`: several prompts share one request; replies are `completion_reply`'s."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.engine.process.status import ModelFacts
from banyan.engine.sampling import SamplingOptions
from banyan.gateway.body import read_body, unless_hung_up
from banyan.gateway.caller import request_context
from banyan.gateway.completion_reply import CompletionReply, Prompt
from banyan.gateway.errors import refuse
from banyan.gateway.event_stream import EventStream
from banyan.gateway.fill_in_middle import middle_prompt
from banyan.gateway.generation import Answers, begun, cut_prompt, gather_answers, run_prompts
from banyan.gateway.sampling import completion_options
from banyan.gateway.services import Services, in_thread, new_id, now_seconds, split_prompts
from banyan.gateway.structure import checked_structure
from banyan.gateway.token_spelling import TokenSpelling
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
    adapter = services.adapter_of(asked.model)
    context = request_context(asked, request, adapter=adapter)
    structure = await checked_structure(asked)
    encode = partial(services.text.encode, add_special_tokens=False)
    options = await in_thread(
        lambda: completion_options(
            asked, services.settings.sampling_defaults, structure, encode=encode
        )
    )
    model = services.ready_model("decoder")
    prompts = await in_thread(lambda: _prompts(services, asked, options, model))
    services.check_answers(num_prompts=len(prompts), num_choices=options.n)

    reply = CompletionReply(
        reply_id=new_id("cmpl", asked.request_id),
        created=now_seconds(),
        asked=asked,
        prompts=prompts,
        spelling=TokenSpelling(services.text, as_ids=bool(asked.return_tokens_as_token_ids)),
        fingerprint=services.fingerprint(),
    )
    tokens = [prompt.token_ids for prompt in prompts]
    choices = [_within_context(asked, options, prompt, model) for prompt in tokens]
    parts = run_prompts(
        services, tokens, choices, request_id=new_id("cmpl"), arrived=arrived, context=context
    )
    answers = Answers(num_prompts=len(prompts), num_choices=options.n)
    if asked.stream:
        started = await unless_hung_up(request.receive, begun(parts))
        return EventStream(reply.chunks(started, answers))
    finished = await unless_hung_up(request.receive, gather_answers(parts, answers))
    return Response(reply.completion(finished), media_type="application/json")


def _prompts(
    services: Services, asked: CompletionRequest, options: SamplingOptions, model: ModelFacts
) -> list[Prompt]:
    """Turn the prompts into tokens, with what is to be echoed of them; runs in a thread."""
    given = split_prompts(asked.prompt, field_name="prompt", limit=services.settings.max_prompts)
    prompts = []
    for one in given:
        whole = _tokens(services, asked, one)
        tokens = cut_prompt(
            whole, asked.truncate_prompt_tokens, model=model, max_tokens=options.max_tokens
        )
        services.check_length(tokens, model=model, field_name="prompt")
        prompts.append(Prompt(tokens, _echo(services, asked, one, tokens, whole)))
    return prompts


def _echo(
    services: Services,
    asked: CompletionRequest,
    one: str | list[int],
    tokens: list[int],
    whole: list[int],
) -> str:
    """Return the text to put before an answer; what was cut off a prompt is not echoed."""
    if not asked.echo:
        return ""
    if isinstance(one, str) and len(tokens) == len(whole):
        return one
    return services.text.decode(tokens, skip_special_tokens=True)


def _tokens(services: Services, asked: CompletionRequest, one: str | list[int]) -> list[int]:
    if not isinstance(one, str):
        if asked.suffix:
            raise refuse("suffix needs a prompt that is text, not token ids", parameter="suffix")
        return one
    if asked.suffix:
        return middle_prompt(services.text, before=one, after=asked.suffix)
    wants_special = asked.add_special_tokens is not False
    return services.text.encode(one, add_special_tokens=wants_special)


def _within_context(
    asked: CompletionRequest, options: SamplingOptions, prompt: Sequence[int], model: ModelFacts
) -> SamplingOptions:
    """Cut OpenAI's default length, which nobody asked for, to what is left of the context."""
    room = model.max_model_len - len(prompt)
    if asked.max_tokens is not None or options.max_tokens is None or options.max_tokens <= room:
        return options
    return replace(options, max_tokens=room)
