import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.gateway.errors import ApiError
from banyan.gateway.wire.chat import ChatRequest
from banyan.gateway.wire.completions import CompletionRequest
from banyan.gateway.wire.content_parts import ContentPart
from banyan.gateway.wire.messages import ChatMessage, message_text
from banyan.gateway.wire.parsing import parse_request


def chat(**fields: Any) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return json.dumps(body).encode()


def refusal(body: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_request(body, ChatRequest)
    assert caught.value.status == 400
    return caught.value


def test_a_request_with_every_served_field_is_read() -> None:
    request = parse_request(
        chat(temperature=1, stop=["a", "b"], logit_bias={"3": -1.5}, seed=-1, top_k=5, n=2),
        ChatRequest,
    )
    assert (request.temperature, request.stop, request.logit_bias) == (1.0, ["a", "b"], {"3": -1.5})


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "u", "store": True, "metadata": {"a": 1}, "service_tier": "auto"},
        {"response_format": {"type": "text"}, "tools": [], "tool_choice": "none"},
        {"max_completion_tokens": 5, "parallel_tool_calls": False},
        {"temperature": None, "stop": None, "n": None},
    ],
)
def test_harmless_fields_of_openai_pass(fields: dict[str, Any]) -> None:
    assert isinstance(parse_request(chat(**fields), ChatRequest), ChatRequest)


def test_a_former_answer_of_the_sdk_can_be_sent_back() -> None:
    former = {"role": "assistant", "content": "Yes", "refusal": None, "tool_calls": None}
    request = parse_request(chat(messages=[former]), ChatRequest)
    assert message_text(request.messages[0]) == "Yes"


@pytest.mark.parametrize(
    ("body", "code", "parameter", "words"),
    [
        (chat(temprature=1), "unknown_field", "temprature", "did you mean temperature?"),
        (chat(zzz=1), "unknown_field", "zzz", "zzz is not a field of this request;"),
        (
            chat(messages=[{"role": "user", "content": "", "x": 1}]),
            "unknown_field",
            "messages[0].x",
            "messages[0].x is not a field",
        ),
        (chat(max_tokens="5"), "invalid_type", "max_tokens", "expected int, got str"),
        (chat(max_tokens=1.5), "invalid_type", "max_tokens", "expected int, got float"),
        (chat(stream=1), "invalid_type", "stream", "expected bool, got int"),
        (chat(seed=2**70), "invalid_type", "seed", "9223372036854775807"),
        (b'{"model": "m"}', "missing_field", "messages", "messages is missing"),
        (b"[]", "invalid_type", None, "the body: expected object, got array"),
        (b'{"model": ', "invalid_json", None, "not valid JSON"),
        (b'{"model": "\xff"}', "invalid_utf8", None, "not valid UTF-8"),
        (b'{"model": NaN}', "invalid_json", None, "not valid JSON"),
        (chat(functions=[{"a": 1}]), "unsupported_parameter", "functions", "is not served"),
        (chat(messages=[]), None, "messages", "messages is empty"),
        (chat(messages=[{"role": "king", "content": ""}]), None, "messages[0].role", "'king'"),
        (chat(messages=[{"role": "user"}]), None, "messages[0].content", "is missing"),
        (
            chat(messages=[{"role": "assistant", "content": "", "function_call": {"a": 1}}]),
            "unsupported_parameter",
            "messages[0]",
            "function_call",
        ),
        (
            chat(messages=[{"role": "user", "content": [{"type": "input_audio"}]}]),
            "unsupported_parameter",
            "messages[0].content[0]",
            "'input_audio'",
        ),
        (
            chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
            "invalid_type",
            "messages[0].content[0].image_url",
            "holds no url",
        ),
        (
            chat(
                messages=[
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 7}}]}
                ]
            ),
            "invalid_type",
            "messages[0].content[0].image_url",
            "holds no url",
        ),
        (
            chat(
                messages=[
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "data:", "size": 1}}
                        ],
                    }
                ]
            ),
            "unknown_field",
            "messages[0].content[0].image_url.size",
            "known are url and detail",
        ),
        (
            chat(
                messages=[
                    {"role": "system", "content": [{"type": "image_url", "image_url": "data:"}]}
                ]
            ),
            "unsupported_parameter",
            "messages[0].content[0]",
            "send images as 'user'",
        ),
    ],
)
def test_a_wrong_body_is_refused_with_the_field_and_the_reason(
    body: bytes, code: str | None, parameter: str | None, words: str
) -> None:
    error = refusal(body)
    assert (error.code, error.parameter) == (code, parameter)
    assert words in error.message


def test_a_name_too_long_to_be_misspelt_is_refused_without_a_guess(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def guess(*arguments: object, **options: object) -> list[str]:
        raise AssertionError("a long name was compared with the fields")

    monkeypatch.setattr("difflib.get_close_matches", guess)
    assert refusal(chat(**{"temperature" * 1000: 1})).code == "unknown_field"


def test_nesting_without_end_is_refused() -> None:
    deep = b'{"model": "m", "messages": [], "metadata": {"a": ' + b"[" * 200_000
    assert refusal(deep).code == "invalid_json"


def test_parts_of_a_message_are_joined_by_line_breaks() -> None:
    parts = [ContentPart(type="text", text="a"), ContentPart(type="text", text="b")]
    assert message_text(ChatMessage(role="user", content=parts)) == "a\nb"
    assert message_text(ChatMessage(role="assistant")) == ""


def test_a_prompt_may_be_token_ids_or_several_prompts() -> None:
    body = {"model": "m", "prompt": [[1, 2], [3]]}
    assert parse_request(json.dumps(body).encode(), CompletionRequest).prompt == [[1, 2], [3]]


NAMES = st.sampled_from([*ChatRequest.__struct_fields__, "other"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, JSON_VALUES, max_size=6))
def test_any_object_is_either_read_or_refused_with_one_sentence(fields: dict[str, Any]) -> None:
    check_read_or_refused(chat(**fields))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_either_read_or_refused_with_one_sentence(body: bytes) -> None:
    check_read_or_refused(body)


def check_read_or_refused(body: bytes) -> None:
    problem: ApiError | None = None
    try:
        parse_request(body, ChatRequest)
    except ApiError as error:
        problem = error
    assert problem is None or (problem.status == 400 and problem.message)


@pytest.mark.parametrize(
    "name",
    [
        "thinking_token_budget",
        "repetition_detection",
        "logprob_token_ids",
        "mm_processor_kwargs",
        "kv_transfer_params",
        "truncation_side",
    ],
)
def test_fields_of_vllm_that_are_known_but_not_served_are_refused_as_such(name: str) -> None:
    error = refusal(chat(**{name: "right"}))
    assert (error.parameter, error.code) == (name, "unsupported_parameter")
    parse_request(chat(truncation_side="left"), ChatRequest)
