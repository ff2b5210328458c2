"""Replies of the routes that tell of the server itself."""

from typing import Any

import msgspec


class Health(msgspec.Struct, frozen=True):
    """The reply of `GET /health`; 200 when `status` is `ready`, 503 otherwise."""

    status: str
    detail: str


class Version(msgspec.Struct, frozen=True):
    """The reply of `GET /version`."""

    version: str


class Load(msgspec.Struct, frozen=True):
    """The reply of `GET /load`: requests to generate or embed that are not answered yet."""

    server_load: int


class CompileReport(msgspec.Struct, frozen=True):
    """The reply of `GET /v1/banyan/report`: what was compiled, for which device."""

    model: str
    kind: str
    max_model_len: int
    report: dict[str, Any]
