"""`POST /v1/embeddings`: vectors as floats or as base64 of little-endian float32."""

import base64
import math
import struct
import time

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.gateway.body import read_body, unless_hung_up
from banyan.gateway.caller import caller_of_key
from banyan.gateway.errors import refuse
from banyan.gateway.pooling import encode_inputs, num_tokens, numbers_of, rows_of
from banyan.gateway.replies.embeddings import Embedding, EmbeddingReply, EmbeddingUsage
from banyan.gateway.services import Services
from banyan.gateway.wire.embeddings import EmbeddingRequest
from banyan.gateway.wire.parsing import parse_request


def embedding_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()

    @router.post("/v1/embeddings")
    async def create_embedding(request: Request) -> Response:
        return await _answer(services, request)

    return router


async def _answer(services: Services, request: Request) -> Response:
    arrived = time.perf_counter()
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
    cut_to = asked.truncate_prompt_tokens
    prompts = await encode_inputs(services, asked.input, cut_to=cut_to, model=model)
    caller = caller_of_key(request)
    work = rows_of(services, prompts, prefix="embd", caller=caller, arrived=arrived)
    vectors = await unless_hung_up(request.receive, work)
    if asked.dimensions is not None:
        vectors = [shortened(vector, asked.dimensions) for vector in vectors]
    count = num_tokens(prompts)
    reply = EmbeddingReply(
        data=[
            Embedding(index=index, embedding=_spelt(vector, encoding))
            for index, vector in enumerate(vectors)
        ],
        model=asked.model,
        usage=EmbeddingUsage(count, count),
    )
    return Response(msgspec.json.encode(reply), media_type="application/json")


def shortened(vector: bytes, dimensions: int) -> bytes:
    """Keep the first numbers of a vector and make its length one again.

    Models trained for it (Kusupati et al. 2022, Matryoshka) put what matters most in front.

    Raises:
        ApiError: 400, there are not so many numbers.
    """
    numbers = numbers_of(vector)
    if not 1 <= dimensions <= len(numbers):
        raise refuse(
            f"dimensions is {dimensions}; the vectors of this model have 1 to {len(numbers)}",
            parameter="dimensions",
        )
    kept = numbers[:dimensions]
    length = math.hypot(*kept) or 1.0
    return struct.pack(f"<{dimensions}f", *(number / length for number in kept))


def _spelt(vector: bytes, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector).decode("ascii")
    return numbers_of(vector)
