"""One OpenTelemetry span for each request, by the conventions for generative AI.

The only module that knows OpenTelemetry; imported when an operator names a collector. Attributes
follow the semantic conventions (`gen_ai.*`); those of latency have vLLM's names. Neither prompts
nor answers are ever put into a span.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from banyan.engine.events import TokenEvent
from banyan.engine.sampling import SamplingOptions
from banyan.gateway.endpoints import route_of
from banyan.gateway.records import RequestRecord

# The conventions' names of what a path does.
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/audio/transcriptions": "transcription",
    "/v1/rerank": "rerank",
    "/v1/score": "score",
}


@dataclass(slots=True)
class _Notes:
    """What the prompts of one request add up to."""

    span: Span
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    finish_reasons: list[str] = field(default_factory=list)


class Tracing:
    """Makes spans; a `RequestObserver`.

    Args:
        processor: where finished spans go.
        service_name: how this server is called among others.
        model_name: the model served.
    """

    def __init__(self, processor: SpanProcessor, *, service_name: str, model_name: str) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("banyan")
        self._model_name = model_name
        self._current: ContextVar[_Notes | None] = ContextVar("request", default=None)

    def note_event(self, record: RequestRecord, event: TokenEvent) -> None:
        """Nothing is noted of single tokens."""

    def note_end(self, record: RequestRecord) -> None:
        """Put what is known of one prompt onto the span of its request."""
        notes = self._current.get()
        if notes is None:
            return
        notes.num_prompt_tokens += record.num_prompt_tokens
        notes.num_cached_tokens += record.num_cached_tokens
        notes.num_generated_tokens += sum(answer.num_generated for answer in record.answers)
        notes.finish_reasons += [answer.finish_reason or "abort" for answer in record.answers]
        span = notes.span
        span.set_attributes(_asked(record.options))
        span.set_attribute("gen_ai.usage.input_tokens", notes.num_prompt_tokens)
        span.set_attribute("gen_ai.usage.cache_read.input_tokens", notes.num_cached_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", notes.num_generated_tokens)
        span.set_attribute("gen_ai.response.finish_reasons", notes.finish_reasons)
        times = record.times()
        if times is not None:
            span.set_attribute("gen_ai.latency.e2e", times.end_to_end)
            span.set_attribute("gen_ai.latency.time_to_first_token", times.first_token)
            span.set_attribute("gen_ai.latency.time_in_queue", times.queued)
            span.set_attribute("gen_ai.latency.time_in_model_prefill", times.prefill)
            span.set_attribute("gen_ai.latency.time_in_model_decode", times.decode)

    def close(self) -> None:
        """Send what is left and stop."""
        self._provider.shutdown()

    def begin(self, scope: Scope, operation: str) -> "_Notes":
        """Start the span of a request, as a child of the caller's when it sent `traceparent`."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        span = self._tracer.start_span(
            f"{operation} {self._model_name}",
            context=TraceContextTextMapPropagator().extract(headers),
            kind=SpanKind.SERVER,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": "banyan",
                "gen_ai.request.model": self._model_name,
                "http.request.method": scope["method"],
                "http.route": scope["path"],
            },
        )
        notes = _Notes(span)
        self._current.set(notes)
        return notes


def otlp_tracing(endpoint: str, *, service_name: str, model_name: str) -> Tracing:
    """Send spans to a collector that speaks OTLP over HTTP, such as http://host:4318/v1/traces."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )

    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint))
    return Tracing(processor, service_name=service_name, model_name=model_name)


class TraceRequests:
    """ASGI middleware that opens a span for each request that asks something of the model."""

    def __init__(self, app: ASGIApp, *, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; its span ends with the last byte of the answer."""
        is_http = scope["type"] == "http"
        operation = _OPERATIONS.get(route_of(scope["path"])) if is_http else None
        if operation is None:
            await self._app(scope, receive, send)
            return
        span = self._tracing.begin(scope, operation).span

        async def noting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                span.set_attribute("http.response.status_code", status)
                if status >= 400:
                    span.set_attribute("error.type", str(status))
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise
        finally:
            span.end()


def _asked(options: SamplingOptions) -> dict[str, Any]:
    """Spell the options of a request as the conventions do; what was not asked is left out."""
    asked = {
        "gen_ai.request.choice.count": options.n,
        "gen_ai.request.max_tokens": options.max_tokens,
        "gen_ai.request.temperature": float(options.temperature),
        "gen_ai.request.top_p": float(options.top_p),
        "gen_ai.request.top_k": options.top_k or None,
        "gen_ai.request.frequency_penalty": float(options.frequency_penalty),
        "gen_ai.request.presence_penalty": float(options.presence_penalty),
        "gen_ai.request.seed": options.seed,
        "gen_ai.request.stop_sequences": options.stop_strings or None,
    }
    return {name: value for name, value in asked.items() if value is not None}
