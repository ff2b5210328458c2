"""`POST /v1/chat/completions`, from body to engine; `chat_reply` shapes what comes back."""

import time
from functools import partial

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.gateway.body import read_body, unless_hung_up
from banyan.gateway.caller import request_context
from banyan.gateway.chat_reply import ChatReply
from banyan.gateway.event_stream import EventStream
from banyan.gateway.generation import Answers, begun, cut_prompt, gather_answers, run_prompts
from banyan.gateway.rendering import rendering_of, template_messages
from banyan.gateway.sampling import chat_options
from banyan.gateway.services import Services, in_thread, new_id, now_seconds
from banyan.gateway.structure import checked_structure
from banyan.gateway.token_spelling import TokenSpelling
from banyan.gateway.tool_calling import answer_reading, shaped_options
from banyan.gateway.wire.chat import ChatRequest
from banyan.gateway.wire.parsing import parse_request


def chat_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def create_chat_completion(request: Request) -> Response:
        return await _answer(services, request)

    return router


async def _answer(services: Services, request: Request) -> Response:
    arrived = time.perf_counter()
    body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
    asked = parse_request(body, ChatRequest)
    adapter = services.adapter_of(asked.model)
    context = request_context(asked, request, adapter=adapter)
    structure = await checked_structure(asked)
    encode = partial(services.text.encode, add_special_tokens=False)
    options = await in_thread(
        lambda: chat_options(asked, services.settings.sampling_defaults, structure, encode=encode)
    )
    model = services.ready_model("decoder")
    rendering = rendering_of(asked, services.settings)
    messages = template_messages(asked.messages)
    tokens = await in_thread(lambda: services.text.encode_chat(messages, rendering))
    tokens = cut_prompt(
        tokens, asked.truncate_prompt_tokens, model=model, max_tokens=options.max_tokens
    )
    services.check_length(tokens, model=model, field_name="messages")
    reading = answer_reading(asked, tokens, settings=services.settings, text=services.text)
    options = await shaped_options(asked, options, reading, services.text)

    reply = ChatReply(
        reply_id=new_id("chatcmpl", asked.request_id),
        created=now_seconds(),
        asked=asked,
        prompt_token_ids=tokens,
        spelling=TokenSpelling(services.text, as_ids=bool(asked.return_tokens_as_token_ids)),
        fingerprint=services.fingerprint(),
        reading=reading,
    )
    parts = run_prompts(
        services,
        [tokens],
        [options],
        request_id=new_id("chatcmpl"),
        arrived=arrived,
        context=context,
    )
    answers = Answers(num_prompts=1, num_choices=options.n)
    if asked.stream:
        started = await unless_hung_up(request.receive, begun(parts))
        return EventStream(reply.chunks(started, answers))
    finished = await unless_hung_up(request.receive, gather_answers(parts, answers))
    return Response(msgspec.json.encode(reply.completion(finished)), media_type="application/json")
