import json
from typing import Any

import httpx
import pytest

from banyan.foundation.errors import EngineStopped, RequestError
from tests.gateway.scripted import ENCODER, LOADING, ScriptedBackend, chat_body, post

PATH = "/v1/chat/completions"


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the objects of a stream that ended properly."""
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_an_answer_has_the_shape_of_openai() -> None:
    reply = post(PATH, chat_body()).json()
    assert reply["id"].startswith("chatcmpl-")
    assert (reply["object"], reply["model"]) == ("chat.completion", "tiny")
    assert reply["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": "a reason",
        }
    ]
    assert reply["usage"] == {
        "prompt_tokens": 19,
        "completion_tokens": 2,
        "total_tokens": 21,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert reply["system_fingerprint"].startswith("fp_")


def test_the_prompt_is_the_rendered_conversation_and_developer_means_system() -> None:
    backend = ScriptedBackend()
    messages = [{"role": "developer", "content": "Be."}, {"role": "user", "content": "Hi"}]
    post(PATH, chat_body(messages=messages), backend=backend)
    assert bytes(backend.seen[0][0]) == b"system: Be.\nuser: Hi\nassistant:"


def test_options_reach_the_engine_and_the_rest_comes_from_the_models_defaults() -> None:
    backend = ScriptedBackend()
    body = chat_body(top_k=7, max_completion_tokens=9, stop="x", logit_bias={"5": 2}, n=2)
    post(PATH, body, backend=backend, sampling_defaults={"temperature": 0.6, "top_k": 20})
    options = backend.seen[0][1]
    assert (options.top_k, options.temperature, options.max_tokens, options.n) == (7, 0.6, 9, 2)
    assert (options.stop_strings, options.logit_bias) == (("x",), {5: 2.0})


def test_a_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    chunks = events(post(PATH, chat_body(stream=True)))
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]
    assert all("usage" not in chunk for chunk in chunks)
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_usage_is_the_last_chunk_when_asked_for() -> None:
    body = chat_body(stream=True, stream_options={"include_usage": True})
    chunks = events(post(PATH, body))
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 21


def test_n_answers_are_told_apart_by_their_index() -> None:
    assert [c["index"] for c in post(PATH, chat_body(n=2)).json()["choices"]] == [0, 1]
    chunks = events(post(PATH, chat_body(n=2, stream=True)))
    ends = [c["choices"][0]["index"] for c in chunks if c["choices"][0]["finish_reason"]]
    assert ends == [0, 1]


def test_logprobs_name_tokens_and_their_bytes() -> None:
    reply = post(PATH, chat_body(logprobs=True, top_logprobs=2)).json()
    first = reply["choices"][0]["logprobs"]["content"][0]
    assert (first["token"], first["logprob"], first["bytes"]) == ("h", -0.5, [104])
    assert first["top_logprobs"][1] == {"token": "\ufffd", "logprob": -9999.0, "bytes": [200]}


def test_text_that_is_not_complete_yet_makes_no_chunk() -> None:
    chunks = events(post(PATH, chat_body(stream=True), backend=ScriptedBackend(["", "a"])))
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "a", None]


@pytest.mark.parametrize(
    ("fields", "status", "parameter", "words"),
    [
        ({"model": "other"}, 404, "model", "ask for 'tiny'"),
        ({"temperature": -1}, 400, "temperature", "temperature=-1"),
        ({"n": 0}, 400, "n", "n=0"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, 400, "max_completion_tokens", "differ"),
        ({"top_logprobs": 2}, 400, "top_logprobs", "logprobs=true"),
        ({"logit_bias": {"x": 1}}, 400, "logit_bias", "'x'"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options", "stream=true"),
        ({"messages": [{"role": "user", "content": "x" * 99}]}, 400, "messages", "at most 63"),
    ],
)
def test_what_cannot_be_served_is_refused_before_the_engine_sees_it(
    fields: dict[str, Any], status: int, parameter: str, words: str
) -> None:
    backend = ScriptedBackend()
    response = post(PATH, chat_body(**fields), backend=backend)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, parameter)
    assert words in error["message"]
    assert backend.seen == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_the_engine_refuses_has_its_own_status_even_as_a_stream(stream: bool) -> None:
    failure = RequestError("seed is odd", parameter="seed")
    response = post(PATH, chat_body(stream=stream), backend=ScriptedBackend([], failure=failure))
    assert response.status_code == 400
    assert response.json()["error"] == {
        "message": "seed is odd",
        "type": "invalid_request_error",
        "param": "seed",
        "code": None,
    }


def test_a_dead_engine_is_answered_with_503_the_reason_and_when_to_retry() -> None:
    failure = EngineStopped("the engine process was killed by signal 9 (SIGKILL)")
    response = post(PATH, chat_body(), backend=ScriptedBackend(["a"], failure=failure))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert "signal 9 (SIGKILL)" in response.json()["error"]["message"]


def test_a_stream_that_breaks_midway_ends_with_an_error_event() -> None:
    backend = ScriptedBackend(["a"], failure=EngineStopped("gone"))
    response = post(PATH, chat_body(stream=True), backend=backend)
    assert response.status_code == 200
    last = response.text.split("\n\n")[-2]
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "gone"
    assert "[DONE]" not in response.text


@pytest.mark.parametrize(
    ("failure", "has_trace"), [(EngineStopped("gone"), False), (KeyError("oh"), True)]
)
def test_only_a_bug_in_a_stream_is_logged_with_its_trace(
    caplog: pytest.LogCaptureFixture, failure: Exception, has_trace: bool
) -> None:
    post(PATH, chat_body(stream=True), backend=ScriptedBackend(["a"], failure=failure))
    (record,) = [each for each in caplog.records if each.name == "banyan.gateway.event_stream"]
    assert (record.exc_info is not None) is has_trace


def test_an_answer_that_fails_in_the_engine_is_our_fault() -> None:
    backend = ScriptedBackend(["a"])
    backend.finish_reason = "error"
    response = post(PATH, chat_body(), backend=backend)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "generation_failed"


def test_a_request_cancelled_by_the_server_is_answered() -> None:
    backend = ScriptedBackend(["a"])
    backend.finish_reason = "cancelled"
    assert post(PATH, chat_body(), backend=backend).status_code == 503


def test_a_bug_is_answered_without_its_details() -> None:
    backend = ScriptedBackend(["a"], failure=RuntimeError("secret"))
    response = post(PATH, chat_body(), backend=backend)
    assert response.status_code == 500
    assert "RuntimeError" in response.json()["error"]["message"]
    assert "secret" not in response.text


def test_a_model_that_is_loading_or_embeds_writes_no_text() -> None:
    response = post(PATH, chat_body(), backend=ScriptedBackend(status=LOADING))
    assert response.status_code == 503
    assert "Packing weights" in response.json()["error"]["message"]
    response = post(PATH, chat_body(), backend=ScriptedBackend(status=ENCODER))
    assert response.status_code == 400
    assert "makes embeddings only" in response.json()["error"]["message"]


def test_what_vllm_tells_of_tokens_is_told_when_asked_for() -> None:
    reply = post(PATH, chat_body(return_token_ids=True, prompt_logprobs=0)).json()
    assert bytes(reply["prompt_token_ids"]) == b"user: Hi\nassistant:"
    assert reply["choices"][0]["token_ids"] == [104, 104]
    assert len(reply["prompt_logprobs"]) == 19
    assert reply["prompt_logprobs"][1]["115"]["rank"] == 3
    chunks = events(post(PATH, chat_body(return_token_ids=True, stream=True)))
    assert bytes(chunks[0]["prompt_token_ids"]) == b"user: Hi\nassistant:"
    assert [chunk["choices"][0].get("token_ids") for chunk in chunks] == [None, [104], [104], None]
    assert chunks[-1]["choices"][0]["stop_reason"] == "a reason"


def test_a_conversation_may_end_without_the_opening_of_an_answer() -> None:
    backend = ScriptedBackend()
    post(PATH, chat_body(add_generation_prompt=False), backend=backend)
    post(PATH, chat_body(truncate_prompt_tokens=3), backend=backend)
    assert [bytes(tokens) for tokens, _ in backend.seen] == [b"user: Hi", b"nt:"]


def test_a_template_of_the_caller_needs_the_operators_leave() -> None:
    response = post(PATH, chat_body(chat_template="x"))
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "chat_template")
    assert "--trust-request-chat-template" in error["message"]
    assert post(PATH, chat_body(chat_template="x"), trust_request_chat_template=True).is_success
    long = post(PATH, chat_body(chat_template="x" * 100_001), trust_request_chat_template=True)
    assert "at most 100000" in long.json()["error"]["message"]


def test_choices_that_exclude_each_other_are_refused() -> None:
    error = post(PATH, chat_body(continue_final_message=True)).json()["error"]
    assert error["param"] == "continue_final_message"


def test_words_may_be_banned_at_the_beginning_and_after_a_space() -> None:
    backend = ScriptedBackend()
    post(PATH, chat_body(bad_words=["no", " no"], allowed_token_ids=[1, 2]), backend=backend)
    options = backend.seen[0][1]
    assert options.bad_token_sequences == ((110, 111), (32, 110, 111))
    assert options.allowed_token_ids == (1, 2)
