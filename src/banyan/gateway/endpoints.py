"""Every path of the API: its method, what goes in, what comes out, what it does.

Owns this list, from which the OpenAPI document, the paths counted in the metrics and the table of
docs/http_api.md are made. The routes themselves are in the modules that answer them; a test
compares.
"""

import re
from dataclasses import dataclass
from typing import Literal

import msgspec

from banyan.gateway.replies.chat import ChatCompletion
from banyan.gateway.replies.completions import Completion
from banyan.gateway.replies.embeddings import EmbeddingReply
from banyan.gateway.replies.models import ModelCard, ModelList
from banyan.gateway.replies.pooling import ClassifyReply, RerankReply, ScoreReply
from banyan.gateway.replies.responses import DeletedResponse, InputItemList, ResponseObject
from banyan.gateway.replies.server import Load, Version
from banyan.gateway.replies.tokenize import DetokenizeReply, TokenizeReply
from banyan.gateway.wire.adapters import LoadAdapterRequest, UnloadAdapterRequest
from banyan.gateway.wire.body import RequestBody
from banyan.gateway.wire.chat import ChatRequest
from banyan.gateway.wire.completions import CompletionRequest
from banyan.gateway.wire.embeddings import EmbeddingRequest
from banyan.gateway.wire.pooling import ClassifyRequest, RerankRequest, ScoreRequest
from banyan.gateway.wire.responses import ResponsesRequest
from banyan.gateway.wire.tokenize import DetokenizeRequest, TokenizeRequest


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of the API.

    Attributes:
        method: as HTTP spells it.
        path: with its parameters in braces.
        summary: one sentence for readers of the schema and the documentation.
        asked: the type of the JSON body, None when there is none.
        answered: the type of a good answer, None when it is no fixed JSON shape.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    asked: type[RequestBody] | None = None
    answered: type[msgspec.Struct] | None = None


RERANKING = (RerankRequest, RerankReply)
SCORING = (ScoreRequest, ScoreReply)
CLASSIFYING = (ClassifyRequest, ClassifyReply)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "POST",
        "/v1/chat/completions",
        'Answer a conversation; streams with `"stream": true`.',
        ChatRequest,
        ChatCompletion,
    ),
    Endpoint(
        "POST",
        "/v1/completions",
        "Continue one or several texts or lists of token ids.",
        CompletionRequest,
        Completion,
    ),
    Endpoint(
        "POST",
        "/v1/responses",
        "Answer a conversation that may go on by `previous_response_id`; streams, too.",
        ResponsesRequest,
        ResponseObject,
    ),
    Endpoint(
        "GET",
        "/v1/responses/{response_id}",
        "Read a stored response.",
        answered=ResponseObject,
    ),
    Endpoint(
        "DELETE",
        "/v1/responses/{response_id}",
        "Delete a stored response.",
        answered=DeletedResponse,
    ),
    Endpoint(
        "GET",
        "/v1/responses/{response_id}/input_items",
        "List what a stored response answered.",
        answered=InputItemList,
    ),
    Endpoint(
        "POST",
        "/v1/responses/{response_id}/cancel",
        "Refused with the reason: no response runs in the background here.",
    ),
    Endpoint(
        "POST",
        "/v1/embeddings",
        "Turn texts into vectors, as floats or base64.",
        EmbeddingRequest,
        EmbeddingReply,
    ),
    Endpoint(
        "POST",
        "/tokenize",
        "Turn a text or a conversation into token ids.",
        TokenizeRequest,
        TokenizeReply,
    ),
    Endpoint(
        "POST",
        "/detokenize",
        "Turn token ids into text.",
        DetokenizeRequest,
        DetokenizeReply,
    ),
    *(
        Endpoint("POST", path, "Sort documents by how well they answer a query.", *RERANKING)
        for path in ("/v1/rerank", "/v2/rerank", "/rerank")
    ),
    *(
        Endpoint("POST", path, "Score how well texts fit together, two by two.", *SCORING)
        for path in ("/v1/score", "/score")
    ),
    *(
        Endpoint("POST", path, "Give the likeliest label of texts.", *CLASSIFYING)
        for path in ("/v1/classify", "/classify")
    ),
    Endpoint(
        "POST",
        "/v1/load_lora_adapter",
        "Load a LoRA adapter; requests then name it as their model.",
        LoadAdapterRequest,
    ),
    Endpoint(
        "POST",
        "/v1/unload_lora_adapter",
        "Drop a LoRA adapter; answers being written with it go on.",
        UnloadAdapterRequest,
    ),
    Endpoint("POST", "/v1/audio/transcriptions", "Write down what is said in a file of sound."),
    Endpoint("POST", "/v1/audio/translations", "Write it down in English."),
    Endpoint("GET", "/v1/models", "List what is served here.", answered=ModelList),
    Endpoint("GET", "/v1/models/{model_id}", "Describe one model.", answered=ModelCard),
    Endpoint("GET", "/v1/banyan/report", "Say what was compiled, and for which device."),
    Endpoint("GET", "/health", "200 when requests are served, otherwise 503 with the reason."),
    Endpoint("GET", "/ping", "The same as /health, for platforms that ask here."),
    Endpoint("GET", "/version", "The version of Banyan.", answered=Version),
    Endpoint("GET", "/load", "How many requests are being answered now.", answered=Load),
    Endpoint("GET", "/metrics", "Counters and times in Prometheus' text format."),
    Endpoint("GET", "/openapi.json", "This API as an OpenAPI 3.1 document."),
)

ASKED_PATHS = tuple(
    point.path
    for point in ENDPOINTS
    if point.path.startswith("/v1/") and (point.method == "POST" or point.path == "/v1/models")
    if "{" not in point.path and "lora" not in point.path
)
"""What a caller who took a wrong path may have wanted."""

# In this order: a path without parameters stands for itself.
_EXACT = frozenset(point.path for point in ENDPOINTS if "{" not in point.path)
_PATTERNS = tuple(
    (re.compile(re.sub(r"\{\w+\}", r"[^/]+(?:/[^/]+)*", point.path)), point.path)
    for point in ENDPOINTS
    if "{" in point.path
)


def route_of(path: str) -> str:
    """Return the endpoint's path that a request's path means, `other` when there is none."""
    if path in _EXACT:
        return path
    return next((route for pattern, route in _PATTERNS if pattern.fullmatch(path)), "other")
