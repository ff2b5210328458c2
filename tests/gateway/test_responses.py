"""Responses in this process; tests/clients drives them with the real SDK."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from banyan.foundation.errors import EngineStopped
from banyan.gateway import responses
from banyan.gateway.errors import ApiError
from banyan.gateway.response_store import ResponseStore, StoredResponse
from tests.gateway.scripted import ScriptedBackend, connect, post

PATH = "/v1/responses"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "input": "Hi"} | fields


def allowing(tools: Any) -> dict[str, Any]:
    """Fields of a request that allows some tools only."""
    choice = {"type": "allowed_tools", "mode": "auto", "tools": tools}
    return {"tools": [{"type": "function", "name": "ping"}], "tool_choice": choice}


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the events of a stream, each named by its type."""
    found = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_response_holds_one_message_and_what_was_asked() -> None:
    backend = ScriptedBackend()
    asked = body(instructions="Be.", max_output_tokens=9, metadata={"a": "b"}, temperature=0.5)
    reply = post(PATH, asked, backend=backend).json()
    (item,) = reply["output"]
    assert item["content"] == [
        {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    ]
    assert (item["role"], item["status"], reply["status"]) == (
        "assistant",
        "completed",
        "completed",
    )
    assert bytes(backend.seen[0][0]) == b"system: Be.\nuser: Hi\nassistant:"
    assert backend.seen[0][1].max_tokens == 9
    told = {name: reply[name] for name in ("instructions", "max_output_tokens", "metadata")}
    assert told == {"instructions": "Be.", "max_output_tokens": 9, "metadata": {"a": "b"}}
    assert reply["usage"]["total_tokens"] == reply["usage"]["input_tokens"] + 2
    assert reply["usage"]["input_tokens_details"] == {"cached_tokens": 1}


def test_a_stream_tells_of_every_change_in_order_and_ends_with_the_whole() -> None:
    told = events(post(PATH, body(stream=True)))
    assert [event["type"].removeprefix("response.") for event in told] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in told] == list(range(10))
    assert told[6]["text"] == "Hello"
    assert told[-1]["response"]["output"] == [told[-2]["item"]]


def test_an_answer_cut_by_its_limit_is_incomplete() -> None:
    backend = ScriptedBackend()
    backend.finish_reason = "length"
    reply = post(PATH, body(), backend=backend).json()
    assert (reply["status"], reply["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    told = events(post(PATH, body(stream=True), backend=backend))
    assert told[-1]["type"] == "response.incomplete"


def test_a_stream_that_breaks_ends_with_the_failed_response() -> None:
    backend = ScriptedBackend(failure=EngineStopped("the engine was killed"))
    last = events(post(PATH, body(stream=True), backend=backend))[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["message"] == "the engine was killed"


def test_a_conversation_goes_on_by_the_former_response_without_its_instructions() -> None:
    backend = ScriptedBackend()

    async def exchange() -> dict[str, Any]:
        async with connect(backend) as client:
            first = (await client.post(PATH, json=body(instructions="Be."))).json()
            second = body(input="More", previous_response_id=first["id"])
            await client.post(PATH, json=second)
            items = await client.get(f"{PATH}/{first['id']}/input_items")
            await client.delete(f"{PATH}/{first['id']}")
            gone = await client.get(f"{PATH}/{first['id']}")
            return {"items": items.json(), "gone": gone}

    found = asyncio.run(exchange())
    assert bytes(backend.seen[1][0]) == b"user: Hi\nassistant: Hello\nuser: More\nassistant:"
    (item,) = found["items"]["data"]
    assert item["content"] == [{"type": "input_text", "text": "Hi"}]
    assert found["gone"].status_code == 404


def test_a_response_is_read_back_by_its_caller_only_and_not_when_it_was_not_stored() -> None:
    async def exchange() -> list[int]:
        async with connect(ScriptedBackend()) as client:
            mine = {"authorization": "Bearer mine"}
            kept = (await client.post(PATH, json=body(), headers=mine)).json()
            passing = (await client.post(PATH, json=body(store=False), headers=mine)).json()
            url = f"{PATH}/{kept['id']}"
            answers = [
                await client.get(url, headers=mine),
                await client.get(url),
                await client.get(f"{PATH}/{passing['id']}", headers=mine),
                await client.post(f"{url}/cancel", headers=mine),
            ]
            assert answers[0].json() == kept
            return [answer.status_code for answer in answers]

    assert asyncio.run(exchange()) == [200, 404, 404, 400]


def test_items_of_former_answers_and_results_of_tools_become_turns() -> None:
    backend = ScriptedBackend()
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Yes", "annotations": []}],
        },
        {"role": "user", "content": "And?"},
    ]
    post(PATH, body(input=items), backend=backend)
    assert bytes(backend.seen[0][0]) == b"user: Hi\nassistant: Yes\nuser: And?\nassistant:"


@pytest.mark.parametrize(
    ("fields", "parameter", "words"),
    [
        ({"background": True}, "background", "is not served"),
        ({"truncation": "auto"}, "truncation", "is not served"),
        ({"conversation": "c"}, "conversation", "is not served"),
        ({"max_tokens": 5}, "max_tokens", "is not a field of this request"),
        ({"max_output_tokens": 0}, "max_output_tokens", "max_output_tokens=0"),
        ({"input": []}, "input", "input is empty"),
        ({"input": "x" * 99}, "input", "input has"),
        ({"input": [{"type": "item_reference"}]}, "input[0].type", "'item_reference'"),
        ({"input": [{"role": "user"}]}, "input[0].content", "is missing"),
        ({"input": [{"role": "king", "content": ""}]}, "input[0].role", "'king'"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "input[0].content[0]",
            "'input_file'",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "only 'function'"),
        (allowing(["ping"]), "tool_choice.tools[0]", "is str"),
        (allowing("ping"), "tool_choice.tools", "is str"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type", "'yaml'"),
        ({"include": ["file_search_call.results"]}, "include[0]", "are served"),
        ({"temperature": -1}, "temperature", "temperature=-1"),
        ({"previous_response_id": "resp_x"}, "previous_response_id", "no response 'resp_x'"),
    ],
)
def test_what_cannot_be_served_is_refused_by_the_names_of_this_request(
    fields: dict[str, Any], parameter: str, words: str
) -> None:
    response = post(PATH, body(**fields))
    error = response.json()["error"]
    assert response.status_code in {400, 404}
    assert error["param"] == parameter
    assert words in error["message"]


def stored(name: str, *, num_bytes: int = 1) -> StoredResponse:
    return StoredResponse(
        response_id=name, caller="c", reply=b"r" * num_bytes, input_items=b"", messages=b""
    )


def test_the_response_used_longest_ago_makes_room() -> None:
    store = ResponseStore(max_responses=2, max_bytes=100)
    store.put(stored("a"))
    store.put(stored("b"))
    store.get("a", caller="c")
    store.put(stored("c"))
    assert store.get("a", caller="c").response_id == "a"
    with pytest.raises(ApiError, match="there is no response 'b'"):
        store.get("b", caller="c")
    store.put(stored("large", num_bytes=99))
    assert store.get("a", caller="c").response_id == "a"
    with pytest.raises(ApiError):
        store.get("c", caller="c")
    store.delete("large", caller="c")
    store.put(stored("other", num_bytes=99))
    assert store.get("a", caller="c").response_id == "a"


def test_all_that_is_kept_of_a_response_counts() -> None:
    # Thoughts of former turns reach no model, but they are listed as input.
    thought = {"type": "reasoning", "content": "x" * 40_000}
    asked = body(input=[{"role": "user", "content": "Hi"}, thought])

    async def exchange() -> list[int]:
        async with connect(ScriptedBackend()) as client:
            ids = [(await client.post(PATH, json=asked)).json()["id"] for _ in range(3)]
            pages = [await client.get(f"{PATH}/{name}/input_items") for name in ids]
            assert len(pages[-1].json()["data"][1]["content"][0]["text"]) == 40_000
            return [page.status_code for page in pages]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(responses, "_MOST_BYTES", 100_000)
        assert asyncio.run(exchange()) == [404, 200, 200]
