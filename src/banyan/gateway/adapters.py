"""`POST /v1/load_lora_adapter` and `POST /v1/unload_lora_adapter`, as vLLM has them.

A loaded adapter is asked for by its name, as if it were a model.
"""

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from banyan.gateway.body import read_body
from banyan.gateway.errors import ApiError, refuse
from banyan.gateway.services import Services
from banyan.gateway.wire.adapters import LoadAdapterRequest, UnloadAdapterRequest
from banyan.gateway.wire.parsing import parse_request


def adapter_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()

    @router.post("/v1/load_lora_adapter")
    async def load(request: Request) -> Response:
        body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
        asked = parse_request(body, LoadAdapterRequest)
        _require_room(services)
        name = asked.lora_name
        if name == services.settings.model_name:
            raise refuse(
                f"lora_name={name!r} is the name of the model itself; choose another",
                parameter="lora_name",
            )
        await services.backend.load_adapter(name, asked.lora_path, replaces=asked.load_inplace)
        return PlainTextResponse(f"Success: LoRA adapter {name!r} added successfully.")

    @router.post("/v1/unload_lora_adapter")
    async def unload(request: Request) -> Response:
        body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
        asked = parse_request(body, UnloadAdapterRequest)
        _require_room(services)
        name = asked.lora_name
        if services.adapter_named(name) is None:
            raise ApiError(
                404,
                f"no adapter {name!r} is loaded; GET /v1/models lists those that are",
                parameter="lora_name",
                code="model_not_found",
            )
        await services.backend.unload_adapter(name)
        return PlainTextResponse(f"Success: LoRA adapter {name!r} removed successfully.")

    return router


def _require_room(services: Services) -> None:
    """Raise 403 unless the operator lets requests change adapters."""
    if not services.settings.may_change_adapters:
        raise ApiError(
            403,
            "adapters cannot be changed by requests here; start the server with --enable-lora",
            code="adapters_are_fixed",
        )
