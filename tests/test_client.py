"""The HTTP client against a small scripted server of the standard library."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from banyan.client import (
    Answer,
    Client,
    Health,
    Message,
    Model,
    Piece,
    ServingDevice,
    Swapped,
    Usage,
)
from banyan.foundation.errors import (
    BanyanError,
    EngineStopped,
    EnvironmentProblem,
    InputError,
    RequestError,
)

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Script:
    """What the server answers, by path, and what it was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, tuple[int, bytes]] = {}
        self.asked: list[dict[str, Any]] = []
        self.url = ""

    def reply(self, path: str, value: Any, status: int = 200) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.replies[path] = (status, body)


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = script.replies[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            script.asked.append(json.loads(self.rfile.read(length)))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        script.url = f"http://127.0.0.1:{server.server_port}"
        yield script
        server.shutdown()
        thread.join()


def event(delta: dict[str, str], reason: str | None = None, **more: Any) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} | more
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def test_a_chat_is_answered_and_options_are_fields_of_the_request(script: Script) -> None:
    choice = {"message": {"content": "Hello"}, "finish_reason": "stop"}
    script.reply("/v1/chat/completions", {"choices": [choice], "usage": USAGE})
    client = Client(script.url + "/v1/")
    answer = client.chat([Message("user", "Hi")], model="m", options={"temperature": 0})
    assert answer == Answer("Hello", "stop", Usage(3, 2))
    assert script.asked == [
        {"temperature": 0, "model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    ]


def test_a_stream_gives_pieces_and_usage_last(script: Script) -> None:
    stream = event({"role": "assistant"}) + event({"content": "\u6811"}) + event({}, "stop")
    usage = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"
    script.reply("/v1/chat/completions", stream + usage + b"data: [DONE]\n\n")
    pieces = list(Client(script.url).stream_chat([Message("user", "Hi")], model="m"))
    assert pieces == [Piece(""), Piece("\u6811"), Piece("", "stop"), Piece("", None, Usage(3, 2))]
    assert script.asked[0]["stream_options"] == {"include_usage": True}


def test_a_stream_that_fails_or_breaks_off_raises(script: Script) -> None:
    failed = event({"content": "a"}) + b'data: {"error": {"message": "gone"}}\n\n'
    script.reply("/v1/chat/completions", failed)
    with pytest.raises(BanyanError, match=r"^gone$"):
        list(Client(script.url).stream_chat([], model="m"))
    script.reply("/v1/chat/completions", event({"content": "a"}))
    with pytest.raises(EngineStopped, match="broke the answer off"):
        list(Client(script.url).stream_chat([], model="m"))


def test_a_text_or_token_ids_are_completed(script: Script) -> None:
    choice = {"text": "b", "finish_reason": "length"}
    script.reply("/v1/completions", {"choices": [choice], "usage": USAGE})
    answer = Client(script.url).complete((1, 2), model="m")
    assert answer == Answer("b", "length", Usage(3, 2))
    Client(script.url).complete("a", model="m")
    assert [asked["prompt"] for asked in script.asked] == [[1, 2], "a"]


def test_texts_become_vectors(script: Script) -> None:
    script.reply("/v1/embeddings", {"data": [{"embedding": [1.0]}, {"embedding": [0.5]}]})
    assert Client(script.url).embed(["a", "b"], model="m") == [[1.0], [0.5]]


def test_the_server_tells_of_itself(script: Script) -> None:
    client = Client(script.url)
    script.reply("/v1/models", {"data": [{"id": "m", "max_model_len": 9}, {"id": "n"}]})
    assert client.models() == [Model("m", 9), Model("n", None)]
    script.reply("/metrics", b"banyan_blocks 4\n")
    assert client.metrics() == "banyan_blocks 4\n"
    script.reply("/v1/banyan/report", {"kind": "decoder"})
    assert client.report() == {"kind": "decoder"}
    script.reply("/health", {"status": "loading", "detail": "Packing"}, status=503)
    assert client.health() == Health("loading", "Packing")


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {"error": {"message": "odd", "param": "seed"}}, RequestError, "^odd$"),
        (503, {"error": {"message": "killed"}}, EngineStopped, "^killed$"),
        (500, {"error": {"message": "bug"}}, BanyanError, "^bug$"),
        (502, b"<html>", BanyanError, "status 502"),
        (404, {"error": "odd"}, RequestError, "status 404"),
        (200, b"<html>", BanyanError, "not JSON"),
        (200, b"[]", BanyanError, "not a JSON object"),
    ],
)
def test_an_error_says_what_the_server_said(
    script: Script, status: int, body: Any, kind: type[BanyanError], words: str
) -> None:
    script.reply("/v1/models", body, status)
    with pytest.raises(kind, match=words):
        Client(script.url).models()


def test_a_server_that_is_not_there_is_told_with_what_to_do() -> None:
    with pytest.raises(EnvironmentProblem, match="banyan serve"):
        Client("http://127.0.0.1:9").health()


def test_a_server_that_is_silent_for_too_long_is_given_up(script: Script) -> None:
    with pytest.raises(EnvironmentProblem, match="failed"):
        Client(script.url, timeout_seconds=1e-6).health()


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://host",
        "http://",
        "",
        "http://host:99999",
        "http://host:0",
        "http://[::1",
        "http://a b",
        "http://host/\n",
    ],
)
def test_what_is_not_an_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="is not an address"):
        Client(url)


def test_a_swap_names_the_model_and_tells_what_serves_then(script: Script) -> None:
    script.reply("/v1/admin/swap", {"kind": "decoder", "max_model_len": 512})
    assert Client(script.url).swap("/models/new") == Swapped("decoder", 512)
    assert Client(script.url).swap() == Swapped("decoder", 512)
    assert script.asked == [{"model": "/models/new"}, {"model": None}]


def test_a_server_that_allows_no_swap_says_how_it_would(script: Script) -> None:
    script.reply("/v1/admin/swap", {"error": {"message": "Not Found"}}, 404)
    with pytest.raises(RequestError, match="start it with --allow-swap"):
        Client(script.url).swap()


def test_a_swap_that_fails_gives_the_reason_of_the_server(script: Script) -> None:
    script.reply("/v1/admin/swap", {"error": {"message": "there is no model /x"}}, 400)
    with pytest.raises(RequestError, match="there is no model /x"):
        Client(script.url).swap("/x")


def test_devices_are_listed_and_drained(script: Script) -> None:
    device = {"name": "b", "state": "drained", "is_used": False, "detail": "", "slowdown": 1.0}
    for path in ("", "/drain", "/undrain"):
        script.reply(f"/v1/admin/devices{path}", {"devices": [device]})
    client, known = Client(script.url), [ServingDevice("b", "drained", False, "", 1.0)]
    assert client.devices() == client.drain("b") == client.undrain("b") == known
    script.reply("/v1/admin/devices/drain", {"error": {"message": "Not Found"}}, 404)
    with pytest.raises(RequestError, match="--plan-devices and --allow-drain"):
        client.drain("b")
    script.reply("/v1/admin/devices/drain", {"error": {"message": "no device 'x'"}}, 400)
    with pytest.raises(RequestError, match="no device 'x'"):
        client.drain("x")
