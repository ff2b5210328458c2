"""Tools through a real server and the real SDK: the fake model is made to call them."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.end_to_end.servers import Server, running_server

pytestmark = pytest.mark.end_to_end

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "enum": ["Ulm", "Bonn"]},
                    "days": {"type": "integer", "minimum": 1, "maximum": 9},
                },
                "required": ["city", "days"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "ping"}},
]
ASKED: dict[str, Any] = {
    "model": "fake",
    "messages": [{"role": "user", "content": "Weather?"}],
    "tools": TOOLS,
    "max_tokens": 1500,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that expects tool calls in the style of Hermes."""
    options = ["--max-model-len", "4000", "--tool-call-parser", "hermes"]
    with running_server("fake", options) as one:
        yield one


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    """A client of that server, closed in the end."""
    with server.sdk() as one:
        yield one


def test_a_whole_conversation_with_a_tool(sdk: openai.OpenAI) -> None:
    chosen: Any = {"type": "function", "function": {"name": "get_weather"}}
    reply = sdk.chat.completions.create(**ASKED, tool_choice=chosen, seed=1)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in {"Ulm", "Bonn"}
    assert 1 <= arguments["days"] <= 9

    messages = [
        *ASKED["messages"],
        choice.message,
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    reply = sdk.chat.completions.create(
        **{**ASKED, "messages": messages, "max_tokens": 5}, tool_choice="none", temperature=0
    )
    assert reply.choices[0].finish_reason == "length"


def test_a_stream_gives_the_same_calls(sdk: openai.OpenAI) -> None:
    for seed in range(4):
        asked = {**ASKED, "tool_choice": "required", "seed": seed, "parallel_tool_calls": False}
        whole = sdk.chat.completions.create(**asked)
        with sdk.chat.completions.stream(**asked) as stream:
            streamed = stream.get_final_completion().choices[0]
        assert streamed.finish_reason == whole.choices[0].finish_reason == "tool_calls"
        one = whole.choices[0].message.tool_calls[0]
        assert streamed.message.tool_calls is not None
        same = streamed.message.tool_calls[0]
        assert same.function.name == one.function.name
        assert same.function.arguments == one.function.arguments


def test_the_sdk_parses_calls_into_classes(sdk: openai.OpenAI) -> None:
    import pydantic  # noqa: PLC0415

    class GetWeather(pydantic.BaseModel):
        city: str = pydantic.Field(max_length=6)
        days: int = pydantic.Field(ge=1, le=9)

    reply = sdk.chat.completions.parse(
        model="fake",
        messages=[{"role": "user", "content": "Weather?"}],
        tools=[openai.pydantic_function_tool(GetWeather)],
        tool_choice="required",
        parallel_tool_calls=False,
        seed=3,
        max_tokens=1500,
    )
    assert reply.choices[0].message.tool_calls is not None
    call = reply.choices[0].message.tool_calls[0]
    assert isinstance(call.function.parsed_arguments, GetWeather)


def test_a_wrong_tool_is_refused_with_its_place(sdk: openai.OpenAI) -> None:
    wrong: Any = {"name": "f", "parameters": {"properties": {"a": {"type": "text"}}}}
    with pytest.raises(openai.BadRequestError, match="at /properties/a/type") as caught:
        sdk.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": "Hi"}],
            tools=[{"type": "function", "function": wrong}],
            tool_choice="required",
        )
    assert caught.value.param == "tools[0].function.parameters"


def test_a_server_without_a_parser_says_how_to_get_one(fake_server: Server) -> None:
    with (
        fake_server.sdk() as sdk,
        pytest.raises(openai.BadRequestError, match="--tool-call-parser"),
    ):
        sdk.chat.completions.create(**ASKED)
