"""`POST /v1/admin/swap`: replace the model that is served. Only there when the operator asks."""

from collections.abc import Awaitable, Callable

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.engine.process.status import ModelFacts
from banyan.gateway.body import read_body
from banyan.gateway.errors import refuse

SwapModel = Callable[[str | None], Awaitable[ModelFacts]]

_LIMIT_BYTES = 65536


class SwapRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which model to serve; None loads the present one anew from its files."""

    model: str | None = None


class SwapReply(msgspec.Struct, frozen=True):
    """The model that serves now."""

    kind: str
    max_model_len: int


def swap_routes(swap: SwapModel) -> APIRouter:
    """Build the router; it answers when the new model serves, or says why it does not."""
    router = APIRouter()

    @router.post("/v1/admin/swap")
    async def swap_model(request: Request) -> Response:
        body = await read_body(request, limit_bytes=_LIMIT_BYTES)
        try:
            asked = msgspec.json.decode(body, type=SwapRequest)
        except msgspec.DecodeError as error:
            raise refuse(f"the body cannot be used: {error}", code="invalid_json") from error
        facts = await swap(asked.model)
        reply = SwapReply(facts.kind, facts.max_model_len)
        return Response(msgspec.json.encode(reply), media_type="application/json")

    return router
