"""`POST /v1/embeddings`: vectors as floats or as base64 of little-endian float32."""

import base64
import struct
from collections.abc import Sequence

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.gateway.body import read_body, unless_hung_up
from banyan.gateway.errors import refuse
from banyan.gateway.replies.embeddings import Embedding, EmbeddingReply, EmbeddingUsage
from banyan.gateway.services import Services, new_id
from banyan.gateway.wire.embeddings import EmbeddingRequest
from banyan.gateway.wire.parsing import parse_request

# OpenAI's limit; SDKs and frameworks cut their lists by it.
_MOST_INPUTS = 2048

# The engine works on one batch at a time: others come between two of them, and a reader who
# leaves stops the rest.
_INPUTS_PER_BATCH = 256


def embedding_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()

    @router.post("/v1/embeddings")
    async def create_embedding(request: Request) -> Response:
        return await _answer(services, request)

    return router


async def _answer(services: Services, request: Request) -> Response:
    body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
    asked = parse_request(body, EmbeddingRequest)
    services.adapter_of(asked.model)
    encoding = asked.encoding_format or "float"
    if encoding not in {"float", "base64"}:
        raise refuse(
            f"encoding_format is {encoding!r}; it must be 'float' or 'base64'",
            parameter="encoding_format",
        )
    model = services.ready_model("embedder")
    prompts = await services.encode(asked.input, field_name="input", limit=_MOST_INPUTS)
    for prompt in prompts:
        services.check_length(prompt, model=model, field_name="input")
    vectors = await unless_hung_up(request.receive, _embed(services, prompts))
    num_tokens = sum(map(len, prompts))
    reply = EmbeddingReply(
        data=[
            Embedding(index=index, embedding=_spelt(vector, encoding))
            for index, vector in enumerate(vectors)
        ],
        model=asked.model,
        usage=EmbeddingUsage(num_tokens, num_tokens),
    )
    return Response(msgspec.json.encode(reply), media_type="application/json")


async def _embed(services: Services, prompts: Sequence[Sequence[int]]) -> list[bytes]:
    vectors: list[bytes] = []
    for start in range(0, len(prompts), _INPUTS_PER_BATCH):
        batch = [
            PoolingPrompt(tuple(prompt)) for prompt in prompts[start : start + _INPUTS_PER_BATCH]
        ]
        vectors += await services.backend.pool(new_id("embd"), batch)
    return vectors


def _spelt(vector: bytes, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector).decode("ascii")
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))
