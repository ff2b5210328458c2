from typing import Any

import pytest

from tests.gateway.scripted import get, post


def test_a_text_becomes_tokens_in_the_shape_of_vllm() -> None:
    reply = post("/tokenize", {"model": "tiny", "prompt": "Hi"}).json()
    assert reply == {"count": 2, "max_model_len": 64, "tokens": [72, 105], "token_strs": None}
    named = post("/tokenize", {"prompt": "Hi", "return_token_strs": True}).json()
    assert named["token_strs"] == ["<0x48>", "<0x69>"]


def test_a_conversation_is_rendered_first() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    whole = post("/tokenize", {"messages": messages}).json()
    assert bytes(whole["tokens"]) == b"user: Hi\nassistant:"
    bare = post("/tokenize", {"messages": messages, "add_generation_prompt": False}).json()
    assert bytes(bare["tokens"]) == b"user: Hi"


def test_tokens_become_text_special_ones_included() -> None:
    assert post("/detokenize", {"tokens": [72, 105, 256]}).json() == {"prompt": "Hi<end>"}


@pytest.mark.parametrize(
    ("path", "body", "status", "parameter"),
    [
        ("/tokenize", {}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": []}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "model": "other"}, 404, "model"),
        ("/tokenize", {"prompt": "a", "x": 1}, 400, "x"),
        ("/tokenize", {"messages": [{"role": "king"}]}, 400, "messages[0].role"),
        ("/tokenize", {"messages": [], "chat_template": "x"}, 400, "chat_template"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens[0]"),
        ("/detokenize", {"tokens": [1], "model": "other"}, 404, "model"),
    ],
)
def test_what_cannot_be_served_is_refused(
    path: str, body: dict[str, Any], status: int, parameter: str
) -> None:
    response = post(path, body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, parameter)


def test_the_version_is_told_and_ping_is_health() -> None:
    assert set(get("/version").json()) == {"version"}
    assert get("/ping").json() == get("/health").json()
