"""Clients of other makers get from a real server what a plain request gets."""

from typing import Any

import httpx
import pytest

from tests.clients.conftest import Drive
from tests.end_to_end.servers import Server, wait_until

pytestmark = pytest.mark.end_to_end

HIDDEN = 64  # of the tiny BERT


@pytest.fixture(scope="module")
def expected(client_server: Server) -> dict[str, Any]:
    """The answers that every client must get, asked for without any client."""
    options = {"model": "fake", "max_tokens": 6, "temperature": 0}
    messages = [{"role": "user", "content": "Hi"}]
    url = f"{client_server.url}/v1"
    chat = httpx.post(f"{url}/chat/completions", json={**options, "messages": messages}).json()
    text = httpx.post(f"{url}/completions", json={**options, "prompt": "Hi"}).json()
    return {
        "whole": chat["choices"][0]["message"]["content"],
        "usage": chat["usage"]["total_tokens"],
        "text": text["choices"][0]["text"],
    }


def check_common(told: dict[str, Any], expected: dict[str, Any]) -> None:
    """What all of the clients were asked to do."""
    assert len(expected["whole"]) == 6
    assert told["whole"] == expected["whole"]
    assert told["streamed"] == expected["whole"]
    assert told["text"] == expected["text"]
    assert told["call"] == "ask"
    assert set(told["arguments"]) == {"yes"}
    assert told["lengths"] == [HIDDEN, HIDDEN]


def test_litellm(
    client_server: Server, encoder_server: Server, drive_python: Drive, expected: dict[str, Any]
) -> None:
    told = drive_python("drive_litellm.py", client_server.url, encoder_server.url)
    check_common(told, expected)
    assert (told["finish_reason"], told["usage"]) == ("length", expected["usage"])
    assert told["later"] == told["hosted"] == expected["whole"]
    # It asks for 16 tokens at least, which is OpenAI's own limit.
    assert told["responded"].startswith(expected["whole"])
    assert "temperature=-1" in told["refusal"]


def test_langchain(
    client_server: Server, encoder_server: Server, drive_python: Drive, expected: dict[str, Any]
) -> None:
    told = drive_python("drive_langchain.py", client_server.url, encoder_server.url)
    check_common(told, expected)
    assert (told["finish_reason"], told["usage"]) == ("length", expected["usage"])
    assert told["later"] == told["responded"] == told["response_stream"] == expected["whole"]
    assert told["many"] == [expected["whole"]] * 2
    assert isinstance(told["structured"]["yes"], bool)


def test_llama_index(
    client_server: Server, encoder_server: Server, drive_python: Drive, expected: dict[str, Any]
) -> None:
    told = drive_python("drive_llama_index.py", client_server.url, encoder_server.url)
    check_common(told, expected)
    assert told["later"] == expected["whole"]
    assert told["text_streamed"] == expected["text"]


def test_openai_for_javascript(
    client_server: Server, encoder_server: Server, drive_node: Drive, expected: dict[str, Any]
) -> None:
    told = drive_node("drive_openai.mjs", client_server.url, encoder_server.url)
    check_common(told, expected)
    assert told["usage"] == told["streamed_usage"] == expected["usage"]
    assert told["responded"] == told["again"] == told["deltas"] == expected["whole"]
    assert told["next"] is True
    assert told["events"][0] == "response.created"
    assert told["events"][-1] == "response.incomplete"
    assert (told["models"], told["model"]) == (["fake"], "fake")
    assert told["logprobs"] == 6
    assert told["float_matches"] is True
    refusal = {"name": "BadRequestError", "status": 400, "param": "temperature"}
    assert told["refusal"] == refusal
    assert told["missing"] == [["NotFoundError", 404, True]] * 3
    assert told["unheard"]["status"] == 400
    assert "writes text" in told["unheard"]["words"]
    # The stream it left is given up, and nothing of it stays; some of it had come already.
    assert 3 <= told["leaving"] < 3000
    running = "banyan_requests_running"
    wait_until("the stream ends", lambda: client_server.metric(running) == 0)
