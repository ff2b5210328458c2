"""Items grow one at a time, and their events tell of each change."""

from typing import Any

from banyan.gateway.replies.chat import ChatDelta, DeltaFunction, DeltaToolCall
from banyan.gateway.replies.responses import FunctionCallItem, OutputMessage, ReasoningItem
from banyan.gateway.response_items import ResponseItems


def call(index: int, *, name: str | None = None, arguments: str = "") -> ChatDelta:
    function = DeltaFunction(name=name, arguments=arguments)
    identity = None if name is None else f"call_{index}"
    return ChatDelta(tool_calls=[DeltaToolCall(index=index, id=identity, function=function)])


def test_a_thought_then_words_then_two_calls_are_four_items_in_order() -> None:
    items = ResponseItems()
    told: list[dict[str, Any]] = []
    for delta in (
        ChatDelta(reasoning_content="hm"),
        ChatDelta(content="I "),
        ChatDelta(content="ask"),
        call(0, name="f"),
        call(0, arguments='{"a":'),
        call(0, arguments="1}"),
        call(1, name="g"),
    ):
        told += items.add(delta)
    told += items.finish()
    thought, words, first, second = items.done
    assert isinstance(thought, ReasoningItem)
    assert thought.content[0].text == "hm"
    assert isinstance(words, OutputMessage)
    assert words.content[0].text == "I ask"
    assert isinstance(first, FunctionCallItem)
    assert (first.call_id, first.name, first.arguments) == ("call_0", "f", '{"a":1}')
    assert isinstance(second, FunctionCallItem)
    assert (second.name, second.arguments) == ("g", "")
    kinds = [event["type"].removeprefix("response.") for event in told]
    assert kinds[-8:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.done",
        "output_item.done",
    ]
    places = [event["output_index"] for event in told]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2, 3}


def test_nothing_said_is_no_item() -> None:
    items = ResponseItems()
    assert list(items.finish()) == []
    assert items.done == []
