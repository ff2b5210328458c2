"""The API's OpenAPI document, made from the very types that parse and answer requests."""

import re
from typing import Any

import msgspec

from banyan.gateway.endpoints import ENDPOINTS, Endpoint
from banyan.gateway.errors import ErrorReply


def api_schema() -> dict[str, Any]:
    """Build the OpenAPI 3.1 document."""
    types: set[type] = {ErrorReply}
    types |= {kind for point in ENDPOINTS for kind in (point.asked, point.answered) if kind}
    _, components = msgspec.json.schema_components(
        sorted(types, key=lambda kind: kind.__name__), ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for point in ENDPOINTS:
        paths.setdefault(point.path, {})[point.method.lower()] = _operation(point)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Banyan", "version": "1"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(point: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": point.summary, "responses": _responses(point.answered)}
    names = re.findall(r"\{(\w+)\}", point.path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if point.asked is not None:
        operation["requestBody"] = {"required": True, "content": _content(point.asked)}
    return operation


def _responses(answered: type[msgspec.Struct] | None) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "The answer."}
    if answered is not None:
        good["content"] = _content(answered)
    return {"200": good, "default": {"description": "An error.", "content": _content(ErrorReply)}}


def _content(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
