"""Tools and reasoning of chat requests, with a backend that writes what a test tells it to."""

import json
from typing import Any

import pytest

from tests.gateway.scripted import ScriptedBackend, chat_body, post
from tests.gateway.test_chat import PATH, events

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Ulm"}}\n</tool_call>'
HERMES: dict[str, Any] = {"tool_call_parser": "hermes", "reasoning_parser": "qwen3"}


def ask(pieces: list[str], **fields: Any) -> dict[str, Any]:
    """Return the only choice of a reply."""
    settings = fields.pop("settings", HERMES)
    reply = post(PATH, chat_body(**fields), backend=ScriptedBackend(pieces), **settings)
    assert reply.status_code == 200, reply.text
    choice: dict[str, Any] = reply.json()["choices"][0]
    return choice


def deltas(pieces: list[str], **fields: Any) -> tuple[list[dict[str, Any]], str]:
    """Return what a stream adds, and its finish reason."""
    reply = post(PATH, chat_body(stream=True, **fields), backend=ScriptedBackend(pieces), **HERMES)
    choices = [chunk["choices"][0] for chunk in events(reply)]
    return [choice["delta"] for choice in choices], choices[-1]["finish_reason"]


def test_a_call_is_told_as_openai_tells_it() -> None:
    choice = ask(["Let me see.\n", CALL], tools=[WEATHER])
    message = choice["message"]
    (call,) = message["tool_calls"]
    assert call.pop("id").startswith("call_")
    assert call == {
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Ulm"}'},
    }
    assert message["content"] == "Let me see."
    assert choice["finish_reason"] == "tool_calls"


def test_an_answer_of_calls_alone_has_no_content() -> None:
    assert ask([CALL], tools=[WEATHER])["message"]["content"] is None


def test_a_stream_tells_the_name_first_and_then_the_arguments() -> None:
    parts, reason = deltas([CALL[:50], CALL[50:60], CALL[60:]], tools=[WEATHER])
    calls = [part["tool_calls"][0] for part in parts if "tool_calls" in part]
    assert calls[0].pop("id").startswith("call_")
    assert calls[0] == {
        "index": 0,
        "type": "function",
        "function": {"name": "get_weather", "arguments": ""},
    }
    assert len(calls) > 2
    assert all(set(call) == {"index", "function"} for call in calls[1:])
    text = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(text) == {"city": "Ulm"}
    assert reason == "tool_calls"


def test_calls_are_left_alone_when_no_tools_were_given_or_none_may_be_called() -> None:
    assert ask([CALL])["message"]["content"] == CALL
    choice = ask([CALL], tools=[WEATHER], tool_choice="none")
    assert choice["message"]["content"] == CALL
    assert choice["finish_reason"] == "stop"


def test_a_cut_answer_says_so_even_when_it_calls() -> None:
    backend = ScriptedBackend([CALL[:-20]])
    backend.finish_reason = "length"
    reply = post(PATH, chat_body(tools=[WEATHER]), backend=backend, **HERMES)
    assert reply.json()["choices"][0]["finish_reason"] == "length"
    assert reply.json()["choices"][0]["message"]["tool_calls"]


def test_only_the_first_call_is_told_when_calls_may_not_be_parallel() -> None:
    choice = ask([CALL, CALL], tools=[WEATHER], parallel_tool_calls=False)
    assert len(choice["message"]["tool_calls"]) == 1
    assert len(ask([CALL, CALL], tools=[WEATHER])["message"]["tool_calls"]) == 2


def test_mistral_gets_ids_of_nine_characters() -> None:
    text = '[TOOL_CALLS] [{"name": "get_weather", "arguments": {}}]'
    choice = ask([text], tools=[WEATHER], settings={"tool_call_parser": "mistral"})
    assert len(choice["message"]["tool_calls"][0]["id"]) == 9


def test_reasoning_is_told_apart_from_the_answer() -> None:
    choice = ask(["<think>\nHm", ".\n</think>\n\nYes."])
    assert choice["message"]["reasoning_content"] == "Hm."
    assert choice["message"]["reasoning"] == "Hm."
    assert choice["message"]["content"] == "Yes."
    parts, _ = deltas(["<think>\nHm", ".\n</think>\n\nYes."])
    assert "".join(part.get("reasoning_content", "") for part in parts) == "Hm."
    assert "".join(part.get("content", "") for part in parts) == "Yes."


def test_reasoning_may_be_left_out_of_the_reply() -> None:
    choice = ask(["<think>Hm.</think>Yes."], include_reasoning=False)
    assert choice["message"] == {"role": "assistant", "content": "Yes.", "refusal": None}


@pytest.mark.parametrize(
    ("end", "reasoning"), [("<think>\n", "Hm."), ("<think>\n\n</think>", None)]
)
def test_a_prompt_that_opens_or_closes_the_section_is_seen(end: str, reasoning: str | None) -> None:
    body = chat_body(
        messages=[{"role": "assistant", "content": end}],
        continue_final_message=True,
        add_generation_prompt=False,
    )
    reply = post(PATH, body, backend=ScriptedBackend(["Hm.", "</think>Yes."]), **HERMES)
    message = reply.json()["choices"][0]["message"]
    assert message.get("reasoning_content") == reasoning


def sent(**fields: Any) -> Any:
    """Return the options that reach the engine."""
    backend = ScriptedBackend([CALL])
    settings = fields.pop("settings", HERMES)
    reply = post(PATH, chat_body(**fields), backend=backend, **settings)
    assert reply.status_code == 200, reply.text
    return backend.seen[0][1]


def test_a_call_that_must_be_made_is_enforced_behind_the_reasoning() -> None:
    other = {"type": "function", "function": {"name": "ping"}}
    required = sent(tools=[WEATHER, other], tool_choice="required").structure
    assert (required.kind, required.after, required.opening) == ("grammar", "</think>", "<think>")
    assert "get_weather" in required.text
    assert "ping" in required.text
    named = sent(
        tools=[WEATHER, other],
        tool_choice={"type": "function", "function": {"name": "ping"}},
        settings={"tool_call_parser": "hermes"},
    ).structure
    assert "get_weather" not in named.text
    assert named.after == ""
    assert sent(tools=[WEATHER], tool_choice="auto").structure is None


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def test_of_the_tools_only_those_that_are_allowed_can_be_called() -> None:
    other = {"type": "function", "function": {"name": "ping"}}
    asked: dict[str, Any] = {"tools": [WEATHER, other]}
    forced = sent(**asked, tool_choice=allowed("required", "ping")).structure
    assert "get_weather" not in forced.text
    assert "ping" in forced.text
    assert sent(**asked, tool_choice=allowed("auto", "ping")).structure is None
    for choice, place in (
        (allowed("auto", "pong"), "tool_choice.allowed_tools.tools[0].function.name"),
        (allowed("never", "ping"), "tool_choice.allowed_tools.mode"),
        (allowed("auto"), "tool_choice.allowed_tools.tools"),
        ({"type": "custom", "custom": {"name": "x"}}, "tool_choice.type"),
    ):
        reply = post(PATH, chat_body(**asked, tool_choice=choice), **HERMES)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, place), reply.text


def test_json_or_calls_may_be_asked_for_together() -> None:
    structure = sent(tools=[WEATHER], response_format={"type": "json_object"}).structure
    assert "start: calls | answer" in structure.text


def test_a_schema_is_enforced_behind_the_reasoning() -> None:
    structure = sent(response_format={"type": "json_object"}).structure
    assert (structure.kind, structure.after) == ("json_object", "</think>")


def test_former_calls_and_their_results_reach_the_template() -> None:
    backend = ScriptedBackend()
    messages = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Ulm"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    reply = post(PATH, chat_body(messages=messages, tools=[WEATHER]), backend=backend, **HERMES)
    assert reply.status_code == 200
    assert b"tool: sunny" in bytes(backend.seen[0][0])


def turn(**fields: Any) -> dict[str, Any]:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return {"role": "assistant", "content": "", "tool_calls": [call | fields]}


@pytest.mark.parametrize(
    ("fields", "parameter", "said"),
    [
        ({"tools": [{"type": "x", "function": {"name": "a"}}]}, "tools[0].type", "only 'function'"),
        (
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[0].function.name",
            "use 1 to 128 letters",
        ),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name", "second time"),
        ({"tools": [WEATHER] * 129}, "tools", "at most 128"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing"),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, "tool_choice", "'maybe'"),
        ({"tool_choice": "required"}, "tool_choice", "no tools were given"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice.function.name",
            "none of the tools (get_weather)",
        ),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "parameters": {"properties": {"a": {"not": {}}}}},
                    }
                ],
                "tool_choice": "required",
            },
            "tools[0].function.parameters",
            "at /properties/a/not",
        ),
        (
            {"tools": [WEATHER], "guided_regex": "a"},
            "tools",
            "keeps to a regex cannot call tools",
        ),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "'huge'"),
        (
            {"messages": [turn(function={"name": "f", "arguments": "{"})]},
            "messages[0].tool_calls[0].function.arguments",
            "is no JSON",
        ),
        (
            {"messages": [turn(function={"name": "f", "arguments": "[]"})]},
            "messages[0].tool_calls[0].function.arguments",
            "no object",
        ),
        ({"messages": [turn(type="x")]}, "messages[0].tool_calls[0].type", "only 'function'"),
        (
            {"messages": [turn() | {"role": "user"}]},
            "messages[0].tool_calls",
            "belongs to the role 'assistant'",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].tool_call_id",
            "needs the id of its call",
        ),
        (
            {"messages": [turn(), {"role": "tool", "content": "x", "tool_call_id": "b"}]},
            "messages[1].tool_call_id",
            "no message before it calls a tool",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_call_id": "b"}]},
            "messages[0].tool_call_id",
            "belongs to the role 'tool'",
        ),
    ],
)
def test_what_is_wrong_with_tools_is_said_with_its_place(
    fields: dict[str, Any], parameter: str, said: str
) -> None:
    reply = post(PATH, chat_body(**fields), **HERMES)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == parameter
    assert said in reply.json()["error"]["message"]


def test_a_model_that_knows_no_tools_is_given_none() -> None:
    reply = post(PATH, chat_body(tools=[WEATHER]))
    assert reply.status_code == 400
    assert "knows no tools" in reply.json()["error"]["message"]
    assert "--tool-call-parser" in reply.json()["error"]["message"]


@pytest.mark.parametrize("kind", [[["string"]], {"a": 1}, 3, None])
def test_a_tool_whose_types_are_none_can_be_called(kind: Any) -> None:
    properties = {"a": {"type": kind}}
    function = {"name": "f", "parameters": {"type": "object", "properties": properties}}
    call = "<tool_call>\n<function=f>\n<parameter=a>\nhi\n</parameter>\n</function>\n</tool_call>"
    asked = chat_body(tools=[{"type": "function", "function": function}])
    backend = ScriptedBackend(pieces=(call,))
    reply = post("/v1/chat/completions", asked, backend=backend, tool_call_parser="qwen3_coder")
    (made,) = reply.json()["choices"][0]["message"]["tool_calls"]
    assert made["function"] == {"name": "f", "arguments": '{"a": "hi"}'}
