"""`POST /v1/classify`: the likeliest label of a text, and the probability of each."""

import time

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.gateway.body import read_body, unless_hung_up
from banyan.gateway.caller import caller_of_key
from banyan.gateway.pooling import encode_inputs, num_tokens, numbers_of, rows_of
from banyan.gateway.replies.embeddings import EmbeddingUsage
from banyan.gateway.replies.pooling import ClassifyReply, TextClass
from banyan.gateway.services import Services, new_id, now_seconds
from banyan.gateway.wire.parsing import parse_request
from banyan.gateway.wire.pooling import ClassifyRequest
from banyan.models.classifier import Classifier, apply_activation


def classification_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()

    @router.post("/v1/classify")
    @router.post("/classify")
    async def classify(request: Request) -> Response:
        return await _answer(services, request)

    return router


async def _answer(services: Services, request: Request) -> Response:
    arrived = time.perf_counter()
    body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
    asked = parse_request(body, ClassifyRequest)
    services.adapter_of(asked.model)
    model = services.ready_model("classifier")
    classifier = services.classifier()
    cut_to = asked.truncate_prompt_tokens
    prompts = await encode_inputs(services, asked.input, cut_to=cut_to, model=model)
    caller = caller_of_key(request)
    work = rows_of(services, prompts, prefix="classify", caller=caller, arrived=arrived)
    rows = await unless_hung_up(request.receive, work)
    count = num_tokens(prompts)
    reply = ClassifyReply(
        id=new_id("classify"),
        created=now_seconds(),
        model=asked.model,
        data=[_class_of(index, row, classifier) for index, row in enumerate(rows)],
        usage=EmbeddingUsage(count, count),
    )
    return Response(msgspec.json.encode(reply), media_type="application/json")


def _class_of(index: int, row: bytes, classifier: Classifier) -> TextClass:
    shares = apply_activation(numbers_of(row), classifier.probability)
    likeliest = max(range(len(shares)), key=shares.__getitem__)
    return TextClass(
        index=index,
        label=classifier.labels[likeliest],
        probs=shares,
        num_classes=len(shares),
    )
