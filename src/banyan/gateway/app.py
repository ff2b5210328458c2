"""The ASGI application, built from explicit dependencies.

Owns which routes and error handlers there are. Called by `cli/serve.py`, and by tests with a
scripted backend.
"""

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from banyan.foundation.errors import BanyanError
from banyan.gateway.adapters import adapter_routes
from banyan.gateway.backend import Backend, TextAndPairs
from banyan.gateway.chat import chat_routes
from banyan.gateway.classification import classification_routes
from banyan.gateway.completions import completion_routes
from banyan.gateway.embeddings import embedding_routes
from banyan.gateway.endpoints import ASKED_PATHS
from banyan.gateway.errors import ApiError, error_response, to_api_error
from banyan.gateway.information import information_routes
from banyan.gateway.metrics.counting import CountRequests
from banyan.gateway.metrics.metrics import Metrics
from banyan.gateway.metrics.naming import Naming
from banyan.gateway.ranking import ranking_routes
from banyan.gateway.responses import response_routes
from banyan.gateway.services import GatewaySettings, Services
from banyan.gateway.tokenization import tokenization_routes
from banyan.gateway.transcriptions import transcription_routes

if TYPE_CHECKING:
    from banyan.gateway.tracing import Tracing

# A line for each module that answers paths; `endpoints` lists the paths.
_ROUTES = (
    chat_routes,
    completion_routes,
    response_routes,
    embedding_routes,
    ranking_routes,
    classification_routes,
    tokenization_routes,
    adapter_routes,
    transcription_routes,
    information_routes,
)


def create_app(
    backend: Backend,
    text: TextAndPairs,
    settings: GatewaySettings,
    *,
    tracing: "Tracing | None" = None,
) -> FastAPI:
    """Build the application; it starts and stops nothing."""
    metrics = Metrics(backend, Naming(settings.model_name, settings.metric_names))
    services = Services(
        backend=backend,
        text=text,
        settings=settings,
        metrics=metrics,
        observers=(metrics,) if tracing is None else (metrics, tracing),
    )
    # The interactive pages of FastAPI load scripts from other sites; we serve the plain schema.
    app = FastAPI(title="Banyan", openapi_url=None, docs_url=None, redoc_url=None)
    for routes in _ROUTES:
        app.include_router(routes(services))
    app.add_exception_handler(BanyanError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_error)
    app.add_middleware(CountRequests, metrics=metrics)
    if tracing is not None:
        from banyan.gateway.tracing import TraceRequests  # noqa: PLC0415

        app.add_middleware(TraceRequests, tracing=tracing)
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    return error_response(to_api_error(error))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answer a wrong path or method, which the router finds before any route runs."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == HTTPStatus.NOT_FOUND:
        sentence = f"there is nothing at {path}; this server has {', '.join(ASKED_PATHS)}"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        sentence = f"{request.method} is not possible at {path}; use {allowed}"
    else:
        sentence = str(error.detail)
    response = error_response(ApiError(error.status_code, sentence))
    response.headers.update(error.headers or {})
    return response


async def _answer_nobody(request: Request, error: Exception) -> Response:
    """End a request whose reader left; nobody sees this status but our own counters."""
    return Response(status_code=499)
