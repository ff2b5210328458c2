import json
from typing import Any

import pytest

from banyan.foundation.errors import EngineStopped
from tests.gateway.scripted import ScriptedBackend, completion_body, post

PATH = "/v1/completions"


def test_a_completion_has_the_shape_of_openai_and_16_tokens_by_default() -> None:
    backend = ScriptedBackend()
    reply = post(PATH, completion_body(), backend=backend).json()
    assert (reply["object"], reply["choices"][0]["text"]) == ("text_completion", "Hello")
    assert reply["usage"]["prompt_tokens"] == 2
    assert backend.seen[0][1].max_tokens == 16


def test_the_16_tokens_of_the_default_end_with_the_context() -> None:
    backend = ScriptedBackend()
    assert post(PATH, completion_body(prompt=["x" * 60, "x"]), backend=backend).is_success
    assert [options.max_tokens for _, options in backend.seen] == [4, 16]
    post(PATH, completion_body(prompt="x" * 60, max_tokens=16), backend=backend)
    assert backend.seen[-1][1].max_tokens == 16  # asked for: the engine refuses it


def test_several_prompts_are_answered_in_order_and_each_counts_once() -> None:
    backend = ScriptedBackend()
    reply = post(PATH, completion_body(prompt=["abc", "de"], n=2), backend=backend).json()
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2, 3]
    assert {choice["text"] for choice in reply["choices"]} == {"Hello"}
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (5, 8)
    assert len(backend.seen) == 2


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("Hi", [(72, 105)]), ([1, 2], [(1, 2)]), ([[1], [2, 3]], [(1,), (2, 3)])],
)
def test_a_prompt_is_text_or_token_ids(prompt: Any, expected: list[tuple[int, ...]]) -> None:
    backend = ScriptedBackend()
    post(PATH, completion_body(prompt=prompt), backend=backend)
    assert [tokens for tokens, _ in backend.seen] == expected


def test_logprobs_carry_offsets_into_the_text() -> None:
    reply = post(PATH, completion_body(logprobs=2)).json()
    assert reply["choices"][0]["logprobs"] == {
        "text_offset": [0, 1],
        "token_logprobs": [-0.5, -0.5],
        "tokens": ["h", "h"],
        "top_logprobs": [{"h": -0.5, "\ufffd": -9999.0}] * 2,
    }


def test_the_chosen_token_is_among_the_likeliest_even_when_it_is_not() -> None:
    reply = post(PATH, completion_body(logprobs=0)).json()
    assert reply["choices"][0]["logprobs"]["top_logprobs"] == [{"h": -0.5}] * 2


def test_a_stream_has_the_offsets_of_a_whole_reply_while_text_is_held_back() -> None:
    backend = ScriptedBackend(["", "", "hhh"])
    lines = post(PATH, completion_body(stream=True, logprobs=0), backend=backend).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    offsets = [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in chunks]
    assert offsets == [[0], [1], [2]]


def test_a_stream_of_two_prompts_carries_both_and_ends_with_usage() -> None:
    body = completion_body(
        prompt=["a", "b"], stream=True, stream_options={"include_usage": True}, logprobs=0
    )
    lines = post(PATH, body).text.split("\n\n")[:-1]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = {0: "", 1: ""}
    for chunk in chunks[:-1]:
        text[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert text == {0: "Hello", 1: "Hello"}
    assert chunks[-1]["usage"]["completion_tokens"] == 4


def test_one_failing_prompt_fails_the_request_and_closes_the_others() -> None:
    backend = ScriptedBackend(["a"], failure=EngineStopped("gone"))
    response = post(PATH, completion_body(prompt=["a", "b"]), backend=backend)
    assert response.status_code == 503
    assert backend.num_open == 0


def test_a_bug_behind_one_of_several_prompts_fails_the_request_too() -> None:
    backend = ScriptedBackend(["a"], failure=KeyError("oh"))
    response = post(PATH, completion_body(prompt=["a", "b"]), backend=backend)
    assert response.status_code == 500
    assert backend.num_open == 0


@pytest.mark.parametrize(
    ("fields", "parameter", "words"),
    [
        ({"prompt": []}, "prompt", "empty list"),
        ({"prompt": ""}, "prompt", "prompt is empty"),
        ({"prompt": [1, "a"]}, "prompt", "mixes token ids with prompts"),
        ({"prompt": ["a"] * 300}, "prompt", "300 prompts; one request takes at most 256"),
        (
            {"prompt": ["a"] * 9, "n": 128},
            "n",
            "9 prompts with n=128 ask for 1152 answers; one request gives at most 1024",
        ),
        ({"prompt": [-1]}, "prompt[0]", "expected int >= 0"),
        ({"prompt": "x" * 64}, "prompt", "has 64 tokens"),
        ({"suffix": "x"}, "suffix", "this one has no tokens for it"),
        ({"suffix": "x", "prompt": [1]}, "suffix", "text, not token ids"),
        ({"suffix": "x", "echo": True}, "suffix", "do not go together"),
        ({"best_of": 1, "n": 2}, "best_of", "best_of=1 is less than n=2"),
        ({"best_of": 2, "stream": True}, "best_of", "cannot be streamed"),
        ({"best_of": 129}, "n", "n=129 cannot be used"),
        ({"echo": True, "logprobs": 1, "stream": True}, "echo", "cannot be streamed"),
        ({"max_tokens": 0}, "max_tokens", "with echo=true only"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs", "cannot be streamed"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "give 1 or more"),
        ({"bad_words": ["a"] * 17}, "bad_words", "bad_words has 17 texts"),
        ({"bad_words": [" "]}, "bad_words", "a text of 0 characters"),
        ({"logits_processors": ["x"]}, "logits_processors", "is not served"),
        ({"use_beam_search": True}, "use_beam_search", "is not served"),
        ({"stream_options": {}}, "stream_options", "stream=true"),
    ],
)
def test_what_cannot_be_served_is_refused(
    fields: dict[str, Any], parameter: str, words: str
) -> None:
    response = post(PATH, completion_body(**fields))
    error = response.json()["error"]
    assert response.status_code == 400
    assert words in error["message"]
    assert error["param"] == parameter


def test_an_echo_puts_the_prompt_before_every_answer() -> None:
    backend = ScriptedBackend()
    body = completion_body(prompt=["ab", [99]], n=2, echo=True)
    reply = post(PATH, body, backend=backend).json()
    texts = [choice["text"] for choice in reply["choices"]]
    assert texts == ["abHello", "abHello", "cHello", "cHello"]
    assert backend.seen[0][1].prompt_logprobs is None


def test_an_echo_with_logprobs_scores_the_prompt_all_but_its_first_token() -> None:
    backend = ScriptedBackend()
    reply = post(PATH, completion_body(echo=True, logprobs=1), backend=backend).json()
    assert backend.seen[0][1].prompt_logprobs == 1
    assert reply["choices"][0]["logprobs"] == {
        "text_offset": [0, 1, 2, 3],
        "token_logprobs": [None, -1.5, -0.5, -0.5],
        "tokens": ["H", "i", "h", "h"],
        "top_logprobs": [None, {"h": -0.5, "i": -1.5}, {"h": -0.5}, {"h": -0.5}],
    }


def test_an_echo_of_0_tokens_is_the_prompt_alone() -> None:
    body = completion_body(echo=True, logprobs=0, max_tokens=0)
    choice = post(PATH, body).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Hi", "length")
    assert choice["logprobs"]["token_logprobs"] == [None, -1.5]


def test_a_streamed_echo_begins_with_the_prompt() -> None:
    text = post(PATH, completion_body(echo=True, stream=True)).text
    chunks = [json.loads(line[6:]) for line in text.splitlines()[:-2] if line]
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["HiHel", "lo"]


def test_the_best_of_several_is_given_and_all_are_counted() -> None:
    backend = ScriptedBackend()
    reply = post(PATH, completion_body(best_of=3), backend=backend).json()
    assert (backend.seen[0][1].n, backend.seen[0][1].logprobs) == (3, 0)
    (choice,) = reply["choices"]
    assert (choice["text"], choice["logprobs"]) == ("Hello", None)
    assert reply["usage"]["completion_tokens"] == 6


def test_a_prompt_is_cut_to_its_last_tokens() -> None:
    backend = ScriptedBackend()
    post(PATH, completion_body(prompt="abcdef", truncate_prompt_tokens=2), backend=backend)
    cut = completion_body(prompt="x" * 90, truncate_prompt_tokens=-1, max_tokens=10)
    post(PATH, cut, backend=backend)
    assert [tokens for tokens, _ in backend.seen] == [(101, 102), (120,) * 54]


def test_tokens_are_told_when_asked_for() -> None:
    choice = post(PATH, completion_body(return_token_ids=True)).json()["choices"][0]
    assert (choice["prompt_token_ids"], choice["token_ids"]) == ([72, 105], [104, 104])
    assert choice["stop_reason"] == "a reason"
    assert "token_ids" not in post(PATH, completion_body()).json()["choices"][0]
    named = post(PATH, completion_body(logprobs=0, return_tokens_as_token_ids=True)).json()
    assert named["choices"][0]["logprobs"]["tokens"] == ["token_id:104"] * 2


def test_the_scores_of_a_prompt_have_the_shape_of_vllm() -> None:
    choice = post(PATH, completion_body(prompt_logprobs=1)).json()["choices"][0]
    assert choice["prompt_logprobs"] == [
        None,
        {
            "105": {"logprob": -1.5, "rank": 3, "decoded_token": "i"},
            "104": {"logprob": -0.5, "rank": 1, "decoded_token": "h"},
        },
    ]


def test_the_id_of_a_reply_may_be_the_callers_and_the_engine_still_tells_requests_apart() -> None:
    reply = post(PATH, completion_body(request_id="mine")).json()
    assert reply["id"] == "cmpl-mine"


def test_usage_may_be_told_with_every_chunk() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    text = post(PATH, completion_body(stream=True, stream_options=options)).text
    chunks = [json.loads(line[6:]) for line in text.splitlines()[:-2] if line]
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 2]
    assert chunks[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
