"""`POST /tokenize` and `POST /detokenize`: what the model's tokenizer makes of a text."""

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.gateway.body import read_body
from banyan.gateway.chat_prompt import chat_prompt
from banyan.gateway.rendering import rendering_of
from banyan.gateway.replies.tokenize import DetokenizeReply, TokenizeReply
from banyan.gateway.services import Services, in_thread
from banyan.gateway.wire.parsing import parse_request
from banyan.gateway.wire.tokenize import DetokenizeRequest, TokenizeRequest


def tokenization_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()

    @router.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
        asked = parse_request(body, TokenizeRequest)
        return await _tokenize(services, asked)

    @router.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
        asked = parse_request(body, DetokenizeRequest)
        if asked.model is not None:
            services.adapter_of(asked.model)
        text = await in_thread(lambda: services.text.decode(asked.tokens))
        return _json(DetokenizeReply(prompt=text))

    return router


async def _tokenize(services: Services, asked: TokenizeRequest) -> Response:
    if asked.model is not None:
        services.adapter_of(asked.model)

    if asked.messages is not None:
        rendering = rendering_of(asked, services.settings)
        tokens, _ = await chat_prompt(services, asked.messages, rendering)
    else:
        prompt, wants_special = asked.prompt or "", asked.add_special_tokens is not False
        tokens = await in_thread(
            lambda: services.text.encode(prompt, add_special_tokens=wants_special)
        )
    names = None
    if asked.return_token_strs:
        names = [services.text.token_text(token) or "" for token in tokens]
    model = services.backend.status().model
    return _json(
        TokenizeReply(
            count=len(tokens),
            max_model_len=None if model is None else model.max_model_len,
            tokens=tokens,
            token_strs=names,
        )
    )


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
