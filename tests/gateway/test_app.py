import asyncio

import httpx
import pytest
from starlette.types import Message, Scope

from banyan.engine.fake import FakeTokenizer
from banyan.foundation.errors import EngineStopped
from banyan.gateway.app import create_app
from banyan.gateway.services import GatewaySettings
from banyan.gateway.text import PromptText, plain_chat
from tests.gateway.scripted import (
    KILLED,
    LOADING,
    ScriptedBackend,
    chat_body,
    connect,
    get,
    post,
)

CHAT = "/v1/chat/completions"


def test_an_unknown_path_and_a_wrong_method_are_answered_in_openais_shape() -> None:
    missing = get("/v2/chat")
    assert missing.status_code == 404
    assert "nothing at /v2/chat" in missing.json()["error"]["message"]
    assert "/v1/chat/completions" in missing.json()["error"]["message"]
    assert "/v1/audio/transcriptions" in missing.json()["error"]["message"]
    wrong = get(CHAT)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "use POST" in wrong.json()["error"]["message"]


def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_read() -> None:
    body = b"x" * 100
    assert post(CHAT, body, max_body_bytes=99).status_code == 413
    assert "limit of 99 bytes" in post(CHAT, body, max_body_bytes=99).json()["error"]["message"]
    assert post(CHAT, body, max_body_bytes=100).status_code == 400
    assert post(CHAT, b"x" * 99 * 40, max_body_bytes=99).status_code == 413


def test_an_empty_body_is_refused() -> None:
    assert "body is empty" in post(CHAT, b"").json()["error"]["message"]


def test_a_body_that_is_not_declared_as_json_is_refused() -> None:
    async def exchange() -> httpx.Response:
        async with connect(ScriptedBackend()) as client:
            return await client.post(CHAT, content=b"{}", headers={"content-type": "text/plain"})

    response = asyncio.run(exchange())
    assert response.status_code == 415
    assert "text/plain" in response.json()["error"]["message"]


def test_health_follows_the_backend() -> None:
    assert get("/health").json() == {"status": "ready", "detail": "the engine is ready"}
    loading = get("/health", backend=ScriptedBackend(status=LOADING))
    assert (loading.status_code, loading.json()["detail"]) == (503, "Packing weights")


def test_models_are_listed_and_described() -> None:
    card = {"id": "tiny", "object": "model", "created": 7, "owned_by": "banyan"}
    more = {"max_model_len": 64, "root": "tiny", "parent": None}
    assert get("/v1/models").json()["data"] == [card | more]
    assert get("/v1/models/tiny").json()["max_model_len"] == 64
    unknown = get("/v1/models/a/b")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    loading = get("/v1/models", backend=ScriptedBackend(status=LOADING))
    assert loading.json()["data"][0]["max_model_len"] is None


def test_the_compile_report_is_there_once_the_model_is() -> None:
    reply = get("/v1/banyan/report").json()
    assert (reply["model"], reply["kind"], reply["report"]) == (
        "tiny",
        "decoder",
        {"device": "cpu"},
    )
    loading = get("/v1/banyan/report", backend=ScriptedBackend(status=LOADING))
    assert (loading.status_code, loading.headers["retry-after"]) == (503, "5")


def test_the_schema_names_every_path_and_field() -> None:
    schema = get("/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/health"} <= set(
        schema["paths"]
    )
    assert "min_tokens" in schema["components"]["schemas"]["ChatRequest"]["properties"]


def test_a_stopped_engine_says_why_and_requests_are_left_to_the_backend() -> None:
    backend = ScriptedBackend(status=KILLED)
    assert "banyan_engine_ready 0.0" in get("/metrics", backend=backend).text
    assert "signal 9" in get("/health", backend=backend).json()["detail"]
    # The backend lets it wait for the next engine, or says that there is none.
    assert post(CHAT, chat_body(), backend=backend).status_code == 200
    backend = ScriptedBackend(status=KILLED, failure=EngineStopped("killed by signal 9"))
    refused = post(CHAT, chat_body(), backend=backend)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert "signal 9" in refused.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_reader_who_hangs_up_closes_the_request_at_once(stream: bool) -> None:
    backend = ScriptedBackend(["a"], pause_forever=True)
    sent = asyncio.run(hang_up_after_the_first_body(backend, stream=stream))
    assert backend.num_open == 0
    assert len(backend.seen) == 1
    bodies = [message for message in sent if message["type"] == "http.response.body"]
    assert bool(bodies and bodies[0]["body"]) is stream


async def hang_up_after_the_first_body(backend: ScriptedBackend, *, stream: bool) -> list[Message]:
    """Call the application as a server does, and disconnect while it answers."""
    settings = GatewaySettings(model_name="tiny", created=7)
    app = create_app(backend, PromptText(FakeTokenizer(), plain_chat), settings)
    body = httpx.Request("POST", "http://b", json=chat_body(stream=stream)).content
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": CHAT,
        "raw_path": CHAT.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if incoming:
            return incoming.pop()
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await asyncio.wait_for(app(scope, receive, send), timeout=60)
    return sent
