"""Structured answers of a real server, asked for with the real SDK."""

import asyncio
import json
from collections.abc import Iterator
from enum import Enum

import openai
import pydantic
import pytest

from tests.end_to_end.servers import Server

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def sdk(fake_server: Server) -> Iterator[openai.OpenAI]:
    """A client of the shared server, closed in the end."""
    with fake_server.sdk() as one:
        yield one


class Colour(Enum):
    """A few words."""

    RED = "red"
    GREEN = "green"


class Thing(pydantic.BaseModel):
    """What the model is asked to describe."""

    name: str = pydantic.Field(max_length=8)
    colours: list[Colour] = pydantic.Field(max_length=3)
    weight: int = pydantic.Field(ge=1, le=500)
    inner: "Thing | None"


def test_the_sdk_parses_answers_into_classes(sdk: openai.OpenAI) -> None:
    for seed in range(5):
        reply = sdk.chat.completions.parse(
            model="fake",
            messages=[{"role": "user", "content": "Describe."}],
            response_format=Thing,
            seed=seed,
            max_tokens=2000,
        )
        thing = reply.choices[0].message.parsed
        assert reply.choices[0].finish_reason == "stop"
        assert thing is not None
        assert 1 <= thing.weight <= 500


def test_a_stream_gives_the_same_text(sdk: openai.OpenAI) -> None:
    asked = {
        "model": "fake",
        "messages": [{"role": "user", "content": "Describe."}],
        "response_format": {"type": "json_object"},
        "temperature": 0,
        "max_tokens": 300,
    }
    whole = sdk.chat.completions.create(**asked)  # type: ignore[call-overload]
    chunks = list(sdk.chat.completions.create(**asked, stream=True))  # type: ignore[call-overload]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    if whole.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


def test_vllms_fields_hold_for_plain_completions(sdk: openai.OpenAI) -> None:
    reply = sdk.completions.create(
        model="fake",
        prompt=["a", "b"],
        n=2,
        max_tokens=20,
        extra_body={"guided_choice": ["north", "south"]},
    )
    assert {choice.text for choice in reply.choices} <= {"north", "south"}
    assert len(reply.choices) == 4


def test_a_wrong_schema_is_refused_with_its_place(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="/properties/a/uniqueItems") as caught:
        sdk.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": "Hi"}],
            response_format={
                "type": "json_schema",
                "json_schema": {
                    "name": "x",
                    "schema": {"properties": {"a": {"type": "array", "uniqueItems": True}}},
                },
            },
        )
    assert caught.value.param == "response_format.json_schema.schema"


def test_structured_and_free_answers_share_steps(fake_server: Server) -> None:
    async def ask_all() -> list[str]:
        async with fake_server.async_sdk() as sdk:
            replies = await asyncio.gather(
                *(
                    sdk.completions.create(
                        model="fake",
                        prompt="x",
                        max_tokens=12,
                        seed=number,
                        extra_body={"guided_regex": f"[a-c]{{3}}{number}"} if number % 2 else {},
                    )
                    for number in range(24)
                )
            )
        return [reply.choices[0].text for reply in replies]

    texts = asyncio.run(ask_all())
    for number, text in enumerate(texts):
        if number % 2:
            assert text[3:] == str(number)
            assert set(text[:3]) <= set("abc")
        else:
            assert len(text.encode()) >= 12
