"""The official Python SDK drives every endpoint it knows; tests/end_to_end has chat with tools."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.end_to_end.servers import Server

pytestmark = pytest.mark.end_to_end

MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def sdk(client_server: Server) -> Iterator[OpenAI]:
    with client_server.sdk() as one:
        yield one


class Answer(BaseModel):
    """A shape that the SDK parses an answer into."""

    yes: bool


def test_chat_tells_of_tokens_and_a_stream_is_gathered_by_the_sdk(sdk: OpenAI) -> None:
    whole = sdk.chat.completions.create(
        model="fake", messages=MESSAGES, max_tokens=6, temperature=0, logprobs=True, top_logprobs=2
    )
    choice = whole.choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert choice.message.content is not None
    assert "".join(token.token for token in choice.logprobs.content) == choice.message.content
    assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)
    assert whole.system_fingerprint is not None
    text = choice.message.content
    # The SDK's own gathering takes an answer that was cut by its length for an error.
    with sdk.chat.completions.stream(
        model="fake", messages=MESSAGES, max_tokens=6, temperature=0, stop=text[3:5]
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == text[: text.index(text[3:5])]
    assert final.choices[0].finish_reason == "stop"


def test_the_sdk_parses_an_answer_into_a_class(sdk: OpenAI) -> None:
    parsed = sdk.chat.completions.parse(
        model="fake", messages=MESSAGES, response_format=Answer, max_tokens=900, temperature=0
    )
    assert isinstance(parsed.choices[0].message.parsed, Answer)
    responded = sdk.responses.parse(
        model="fake", input="Hi", text_format=Answer, max_output_tokens=900, temperature=0
    )
    assert isinstance(responded.output_parsed, Answer)


def test_completions_with_echo_best_of_and_fields_of_vllm(sdk: OpenAI) -> None:
    scored = sdk.completions.create(
        model="fake", prompt="abc", echo=True, logprobs=1, max_tokens=2, temperature=0
    )
    choice = scored.choices[0]
    assert choice.text.startswith("abc")
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs is not None
    assert choice.logprobs.token_logprobs[0] is None
    assert len(choice.logprobs.token_logprobs) == 5
    best = sdk.completions.create(model="fake", prompt="abc", best_of=3, max_tokens=4)
    assert len(best.choices) == 1
    chosen = sdk.completions.create(
        model="fake",
        prompt="abc",
        max_tokens=5,
        extra_body={"allowed_token_ids": [120, 121], "bad_words": ["y"], "return_token_ids": True},
    )
    assert chosen.choices[0].text == "xxxxx"
    with pytest.raises(openai.BadRequestError, match="no tokens for it"):
        sdk.completions.create(model="fake", prompt="a", suffix="b")


def test_a_response_is_created_read_continued_and_deleted(sdk: OpenAI) -> None:
    first = sdk.responses.create(model="fake", input="Hi", max_output_tokens=6, temperature=0)
    assert len(first.output_text) == 6
    assert first.status == "incomplete"
    assert sdk.responses.retrieve(first.id).output_text == first.output_text
    items = list(sdk.responses.input_items.list(first.id))
    assert len(items) == 1
    second = sdk.responses.create(
        model="fake", input="More", previous_response_id=first.id, max_output_tokens=6
    )
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match="there is no response"):
        sdk.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError, match="background is not served"):
        sdk.responses.create(model="fake", input="Hi", background=True)


def test_a_streamed_response_is_gathered_by_the_sdk(sdk: OpenAI) -> None:
    whole = sdk.responses.create(model="fake", input="Hi", max_output_tokens=6, temperature=0)
    told = list(
        sdk.responses.create(
            model="fake", input="Hi", max_output_tokens=6, temperature=0, stream=True
        )
    )
    deltas = [event.delta for event in told if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert [event.sequence_number for event in told] == list(range(len(told)))
    with sdk.responses.stream(
        model="fake", input="Hi", max_output_tokens=300, temperature=0
    ) as stream:
        kinds = [event.type for event in stream]
    assert kinds[0] == "response.created"


def test_a_response_calls_a_tool_and_takes_its_result(sdk: OpenAI) -> None:
    tool: Any = {
        "type": "function",
        "name": "ask",
        "parameters": {
            "type": "object",
            "properties": {"yes": {"type": "boolean"}},
            "required": ["yes"],
            "additionalProperties": False,
        },
        "strict": True,
    }
    asked: dict[str, Any] = {"model": "fake", "tools": [tool], "max_output_tokens": 900}
    asked["temperature"] = 0
    reply = sdk.responses.create(**asked, input="Hi", tool_choice="required")
    call = reply.output[-1]
    assert call.type == "function_call"
    assert set(json.loads(call.arguments)) == {"yes"}
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
    after = sdk.responses.create(
        **{**asked, "max_output_tokens": 5},
        input=[result],
        previous_response_id=reply.id,
        tool_choice="none",
    )
    assert after.output_text


def test_the_asynchronous_sdk_streams_chat_and_responses(client_server: Server) -> None:
    async def exchange() -> tuple[str, str]:
        async with client_server.async_sdk() as sdk:
            chat = await sdk.chat.completions.create(
                model="fake", messages=MESSAGES, max_tokens=6, temperature=0, stream=True
            )
            said = "".join([chunk.choices[0].delta.content or "" async for chunk in chat])
            events = await sdk.responses.create(
                model="fake", input="Hi", max_output_tokens=6, temperature=0, stream=True
            )
            deltas = [e.delta async for e in events if e.type == "response.output_text.delta"]
            return said, "".join(deltas)

    said, responded = asyncio.run(exchange())
    assert said == responded
    assert len(said) == 6


def test_embeddings_come_as_floats_and_as_base64(encoder_server: Server) -> None:
    with encoder_server.sdk() as sdk:
        packed = sdk.embeddings.create(model="tiny", input=["a", "b"])
        plain = sdk.embeddings.create(model="tiny", input="a", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(packed.data[0].embedding, abs=1e-6)
    assert packed.usage.prompt_tokens > 0


def test_models_are_listed_and_described(sdk: OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["fake"]
    assert sdk.models.retrieve("fake").owned_by == "banyan"
    with pytest.raises(openai.NotFoundError, match="not served here"):
        sdk.models.retrieve("other")


def test_endpoints_that_are_not_here_are_told_apart_from_models_that_are_not(sdk: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nothing at /v1/moderations; this server has"):
        sdk.moderations.create(input="Hi")
    with pytest.raises(openai.NotFoundError, match="/v1/audio/transcriptions"):
        sdk.audio.speech.create(model="fake", input="Hi", voice="alloy")
    with pytest.raises(openai.NotFoundError, match="nothing at /v1/images/generations"):
        sdk.images.generate(model="fake", prompt="a banyan")
    with pytest.raises(openai.NotFoundError, match="nothing at /v1/files"):
        sdk.files.list()
    with pytest.raises(openai.BadRequestError, match="writes text") as caught:
        sdk.audio.transcriptions.create(model="fake", file=("a.wav", b"RIFF"))
    assert caught.value.type == "invalid_request_error"


def test_fields_of_vllm_have_their_effect_through_the_sdk(sdk: OpenAI) -> None:
    def text(**extra: Any) -> str:
        reply = sdk.completions.create(
            model="fake", prompt="Hi", max_tokens=8, temperature=0, extra_body=extra
        )
        return reply.choices[0].text

    plain = text()
    assert len(plain) == 8
    assert text(guided_choice=["yes", "no"]) in {"yes", "no"}
    assert text(structured_outputs={"choice": ["up", "down"]}) in {"up", "down"}
    assert text(guided_regex="[0-9]{3}").isdigit()
    assert text(structured_outputs={"regex": "[a-c]{4}"}).strip("abc") == ""
    assert json.loads(text(guided_json={"type": "boolean"})) in {True, False}
    assert text(guided_grammar='start: "left" | "right"') in {"left", "right"}
    assert text(stop=[plain[3]], include_stop_str_in_output=True).endswith(plain[3])
    assert text(stop_token_ids=[ord(plain[2])]) in plain
    assert text(allowed_token_ids=[122]) == "z" * 8
    assert text(logit_bias={"120": 100}) == "x" * 8
    # These change nothing of a greedy answer.
    for same in (
        {"min_p": 0.1, "top_k": 5, "min_tokens": 2, "ignore_eos": True},
        {"priority": -1, "cache_salt": "a", "truncate_prompt_tokens": -1},
        {"skip_special_tokens": False, "spaces_between_special_tokens": True},
        {"repetition_penalty": 1.0, "return_token_ids": True, "request_id": "mine"},
    ):
        assert text(**same) == plain, same
    with pytest.raises(openai.BadRequestError, match="thinking_token_budget is not served"):
        text(thinking_token_budget=5)
    with pytest.raises(openai.BadRequestError, match="min_tokenz is not a field"):
        text(min_tokenz=5)
