"""The API's OpenAPI document, made from the very types that parse and answer requests."""

from typing import Any

import msgspec

from banyan.gateway.errors import ErrorReply
from banyan.gateway.replies import ChatCompletion, Completion, EmbeddingReply, ModelCard, ModelList
from banyan.gateway.wire import ChatRequest, CompletionRequest, EmbeddingRequest

_POSTS: tuple[tuple[str, type[msgspec.Struct], type[msgspec.Struct], str], ...] = (
    ("/v1/chat/completions", ChatRequest, ChatCompletion, "Answer a conversation."),
    ("/v1/completions", CompletionRequest, Completion, "Continue a text."),
    ("/v1/embeddings", EmbeddingRequest, EmbeddingReply, "Turn texts into vectors."),
)
_GETS: tuple[tuple[str, type[msgspec.Struct] | None, str], ...] = (
    ("/v1/models", ModelList, "List the model served here."),
    ("/v1/models/{model_id}", ModelCard, "Describe one model."),
    ("/v1/banyan/report", None, "Say what was compiled, and for which device."),
    ("/health", None, "200 when requests are served, 503 with the reason otherwise."),
    ("/metrics", None, "Counters and times in Prometheus' text format."),
)


def api_schema() -> dict[str, Any]:
    """Build the OpenAPI 3.1 document."""
    types: list[type] = [ErrorReply]
    types += [kind for _, asked, answered, _ in _POSTS for kind in (asked, answered)]
    types += [kind for _, kind, _ in _GETS if kind is not None]
    _, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for path, asked, answered, summary in _POSTS:
        paths[path] = {
            "post": {
                "summary": summary,
                "requestBody": {"required": True, "content": _content(asked)},
                "responses": _responses(answered),
            }
        }
    for path, reply, summary in _GETS:
        paths[path] = {"get": {"summary": summary, "responses": _responses(reply)}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Banyan", "version": "1"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _responses(answered: type[msgspec.Struct] | None) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "The answer."}
    if answered is not None:
        good["content"] = _content(answered)
    return {"200": good, "default": {"description": "An error.", "content": _content(ErrorReply)}}


def _content(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
