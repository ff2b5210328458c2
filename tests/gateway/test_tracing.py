import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from banyan.engine.fake import FakeTokenizer
from banyan.gateway.app import create_app
from banyan.gateway.services import GatewaySettings
from banyan.gateway.text import PromptText, plain_chat
from banyan.gateway.tracing import Tracing, otlp_tracing
from tests.gateway.scripted import ScriptedBackend, chat_body, completion_body

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


def ask(tracing: Tracing, path: str, body: Any, *, backend: ScriptedBackend | None = None) -> None:
    settings = GatewaySettings(model_name="tiny", created=7)
    text = PromptText(FakeTokenizer(), plain_chat)
    app = create_app(backend or ScriptedBackend(), text, settings, tracing=tracing)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def exchange() -> None:
        async with httpx.AsyncClient(transport=transport, base_url="http://banyan") as client:
            await client.get("/health")
            await client.post(path, json=body, headers={"traceparent": PARENT})

    asyncio.run(exchange())


def traced(path: str, body: Any, *, backend: ScriptedBackend | None = None) -> ReadableSpan:
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), service_name="banyan", model_name="tiny")
    ask(tracing, path, body, backend=backend)
    (span,) = exporter.get_finished_spans()
    return span


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_request_makes_one_span_with_the_names_of_the_conventions(stream: bool) -> None:
    body = chat_body(stream=stream, max_tokens=9, temperature=0.5, stop="x", n=2)
    span = traced("/v1/chat/completions", body)
    attributes = dict(span.attributes or {})
    assert (span.name, span.kind) == ("chat tiny", SpanKind.SERVER)
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.request.model"] == "tiny"
    assert attributes["gen_ai.request.max_tokens"] == 9
    assert attributes["gen_ai.request.temperature"] == 0.5
    assert attributes["gen_ai.request.stop_sequences"] == ("x",)
    assert attributes["gen_ai.request.choice.count"] == 2
    assert attributes["gen_ai.usage.input_tokens"] == 19
    assert attributes["gen_ai.usage.output_tokens"] == 4
    assert attributes["gen_ai.response.finish_reasons"] == ("stop", "stop")
    assert attributes["http.response.status_code"] == 200
    latency = attributes["gen_ai.latency.time_to_first_token"]
    assert isinstance(latency, float)
    assert latency > 0


def test_the_span_is_a_child_of_the_callers() -> None:
    span = traced("/v1/chat/completions", chat_body())
    assert span.context is not None
    assert format(span.context.trace_id, "032x") == TRACE_ID
    assert span.parent is not None
    assert format(span.parent.span_id, "016x") == "b7ad6b7169203331"


def test_several_prompts_share_one_span_that_adds_them_up() -> None:
    attributes = traced("/v1/completions", completion_body(prompt=["abc", "de"])).attributes or {}
    assert attributes["gen_ai.operation.name"] == "text_completion"
    assert attributes["gen_ai.usage.input_tokens"] == 5
    assert attributes["gen_ai.response.finish_reasons"] == ("stop", "stop")


def test_a_refused_request_and_a_bug_are_told_apart() -> None:
    refused = traced("/v1/completions", completion_body(temperature=-1))
    assert (refused.attributes or {})["error.type"] == "400"
    assert refused.status.status_code is StatusCode.UNSET
    bug = traced("/v1/completions", completion_body(), backend=ScriptedBackend(failure=KeyError()))
    assert (bug.attributes or {})["error.type"] == "KeyError"
    assert bug.status.status_code is StatusCode.ERROR


def test_no_word_of_a_prompt_or_an_answer_is_in_a_span() -> None:
    body = chat_body(messages=[{"role": "user", "content": "my secret"}])
    assert "secret" not in traced("/v1/chat/completions", body).to_json()


def test_spans_reach_a_collector_by_otlp_over_http() -> None:
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        tracing = otlp_tracing(url, service_name="mine", model_name="tiny")
        ask(tracing, "/v1/completions", completion_body())
        tracing.close()
        collector.shutdown()
        thread.join()
    message = ExportTraceServiceRequest.FromString(received[0])
    (resource,) = message.resource_spans
    assert resource.scope_spans[0].spans[0].name == "text_completion tiny"
    services = [
        a.value.string_value for a in resource.resource.attributes if a.key == "service.name"
    ]
    assert services == ["mine"]
