"""Routes that only tell: models, health, metrics, the compile report, the schema."""

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from banyan import __version__
from banyan.engine.process.status import AdapterFacts, EngineStatus
from banyan.gateway.errors import ApiError
from banyan.gateway.metrics.metrics import CONTENT_TYPE
from banyan.gateway.openapi import api_schema
from banyan.gateway.replies.models import ModelCard, ModelList
from banyan.gateway.replies.server import CompileReport, Health, Load, Version
from banyan.gateway.services import GatewaySettings, Services

RETRY_AFTER_SECONDS = 5


def information_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()
    settings = services.settings

    @router.get("/health")
    @router.get("/ping")
    async def read_health() -> Response:
        return _health(services.backend.status())

    @router.get("/version")
    async def read_version() -> Response:
        return _json(Version(__version__))

    @router.get("/load")
    async def read_load() -> Response:
        return _json(Load(services.metrics.num_in_flight))

    @router.get("/metrics")
    async def read_metrics() -> Response:
        return Response(services.metrics.render(), media_type=CONTENT_TYPE)

    @router.get("/v1/models")
    async def list_models() -> Response:
        card = _card(settings, services.backend.status())
        adapters = [_adapter_card(card, adapter) for adapter in services.adapters()]
        return _json(ModelList(data=[card, *adapters]))

    @router.get("/v1/models/{model_id:path}")
    async def read_model(model_id: str) -> Response:
        services.adapter_of(model_id)
        card = _card(settings, services.backend.status())
        adapter = None if model_id == card.id else services.adapter_named(model_id)
        return _json(card if adapter is None else _adapter_card(card, adapter))

    @router.get("/v1/banyan/report")
    async def read_report() -> Response:
        model = services.backend.status().model
        if model is None:
            raise ApiError(
                503,
                "the model is not loaded yet; ask again when /health is ready",
                kind="server_error",
                code="engine_stopped",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        return _json(
            CompileReport(settings.model_name, model.kind, model.max_model_len, dict(model.report))
        )

    @router.get("/openapi.json")
    async def read_schema() -> Response:
        return _json(api_schema())

    return router


def _health(status: EngineStatus) -> Response:
    health = Health(status.state, status.detail)
    if status.state == "ready":
        return _json(health)
    answer = _json(health, status_code=503)
    answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer


def _card(settings: GatewaySettings, status: EngineStatus) -> ModelCard:
    return ModelCard(
        id=settings.model_name,
        created=settings.created,
        max_model_len=None if status.model is None else status.model.max_model_len,
        root=settings.model_name,
    )


def _adapter_card(base: ModelCard, adapter: AdapterFacts) -> ModelCard:
    return msgspec.structs.replace(base, id=adapter.name, root=adapter.path, parent=base.id)


def _json(value: object, *, status_code: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value), status_code=status_code, media_type="application/json"
    )
