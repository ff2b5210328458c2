"""`POST /v1/chat/completions`, from body to engine; `chat_reply` shapes what comes back."""

import time

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.gateway.body import read_body, unless_hung_up
from banyan.gateway.chat_reply import ChatReply
from banyan.gateway.chat_running import run_chat
from banyan.gateway.event_stream import EventStream
from banyan.gateway.generation import begun, gather_answers
from banyan.gateway.services import Services, new_id, now_seconds
from banyan.gateway.token_spelling import TokenSpelling
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
    running = await run_chat(services, request, asked, arrived=arrived)
    reply = ChatReply(
        reply_id=new_id("chatcmpl", asked.request_id),
        created=now_seconds(),
        asked=asked,
        prompt_token_ids=running.prompt_token_ids,
        spelling=TokenSpelling(services.text, as_ids=bool(asked.return_tokens_as_token_ids)),
        fingerprint=services.fingerprint(),
        reading=running.reading,
    )
    if asked.stream:
        started = await unless_hung_up(request.receive, begun(running.parts))
        return EventStream(reply.chunks(started, running.answers))
    finished = await unless_hung_up(request.receive, gather_answers(running.parts, running.answers))
    return Response(msgspec.json.encode(reply.completion(finished)), media_type="application/json")
