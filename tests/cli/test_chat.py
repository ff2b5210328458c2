from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from banyan.cli import chat
from banyan.cli.chat import ChatOptions, run_chat
from banyan.client import Message, Model, Piece
from banyan.foundation.errors import RequestError


class ScriptedClient:
    """Answers each conversation with its number of messages; some words make it fail."""

    seen: list[tuple[list[Message], Mapping[str, Any]]]

    def __init__(self, url: str) -> None:
        assert url == "http://there"

    def models(self) -> list[Model]:
        return [Model("tiny", 64)]

    def stream_chat(
        self, messages: Sequence[Message], *, model: str, options: Mapping[str, Any]
    ) -> Generator[Piece, None, None]:
        assert model == "tiny"
        self.seen.append((list(messages), options))
        if messages[-1].content == "too long":
            raise RequestError("it is too long")
        yield Piece("I count ")
        if messages[-1].content == "stop me":
            raise KeyboardInterrupt
        yield Piece(f"{len(messages)}")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person types, line by line; then the input ends."""
    lines: list[str] = []

    def read(*_: object, **__: object) -> str:
        if not lines:
            raise EOFError
        return lines.pop(0)

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(chat, "Client", ScriptedClient)
    monkeypatch.setattr(ScriptedClient, "seen", [], raising=False)
    return lines


def test_a_conversation_remembers_and_can_be_cleared(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typed += ["a", "", "b", "/clear", "c", "/quit", "never"]
    run_chat(ChatOptions(url="http://there", system="Be.", max_tokens=5))
    assert [len(messages) for messages, _ in ScriptedClient.seen] == [2, 4, 2]
    assert ScriptedClient.seen[1][0][2] == Message("assistant", "I count 2")
    assert ScriptedClient.seen[0][1] == {"max_tokens": 5}
    assert "I count 4" in capsys.readouterr().out
    assert typed == ["never"]


def test_a_refused_turn_is_taken_back_and_a_stopped_answer_is_kept(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typed += ["too long", "stop me", "go on"]
    run_chat(ChatOptions(url="http://there"))
    assert [message.content for message in ScriptedClient.seen[-1][0]] == [
        "stop me",
        "I count ",
        "go on",
    ]
    said = capsys.readouterr().out
    assert "it is too long" in said
    assert "(stopped)" in said


def test_without_an_address_a_server_is_started(
    typed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Sequence[str]] = []

    @contextmanager
    def start(arguments: Sequence[str], **_: object) -> Iterator[str]:
        started.append(arguments)
        yield "http://there"

    monkeypatch.setattr(chat, "started_server", start)
    run_chat(ChatOptions(model="fake"))
    assert started == [["fake"]]
