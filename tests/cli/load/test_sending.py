"""A load against a real server, and against servers that misbehave."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from banyan.cli.load.command import LoadOptions, run_load
from banyan.cli.load.outcome import Outcome
from banyan.cli.load.sending import Server, send_all
from banyan.cli.load.workload import Ask, Lengths, Workload
from banyan.foundation.errors import EnvironmentProblem, InputError
from tests.end_to_end.servers import running_server

FINISH = '{"choices": [{"text": "", "finish_reason": "length"}]}'
ASK = Ask(0.0, "hello", Lengths(1, 4))
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def outcome_of(reply: bytes) -> Outcome:
    """Send one request to a server that answers `reply` and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # the first connection only looks who is there
            writer.close()
            return
        writer.write(reply)
        await writer.drain()
        writer.close()

    async def whole() -> Outcome:
        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener:
            (found,) = await send_all(Server(url=f"http://127.0.0.1:{port}", model="m"), [ASK])
        return found

    return asyncio.run(whole())


def stream(*events: str) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    return head + b"".join(b"data: " + event.encode() + b"\n\n" for event in events)


PIECE = '{"choices": [{"text": "a"}]}'
USAGE = '{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}'


def test_an_answer_is_read_with_and_without_chunks() -> None:
    plain = outcome_of(stream(PIECE, PIECE, USAGE, "[DONE]"))
    assert (plain.problem, len(plain.pieces), plain.num_tokens) == (None, 2, 2)
    assert plain.num_prompt_tokens == 3
    body = stream(PIECE, PIECE, "[DONE]").partition(b"\r\n\r\n")[2]
    cuts = [body[i : i + 7] for i in range(0, len(body), 7)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(cut), cut) for cut in cuts) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = outcome_of(head + chunks)
    assert (chunked.problem, len(chunked.pieces), chunked.num_tokens) == (None, 2, 2)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n", "status 503"),
        (stream(PIECE), "cut off"),
        (stream(PIECE, '{"error": {"message": "no"}}', "[DONE]"), "error in the stream"),
        (stream("{"), "JSONDecodeError"),
        (b"", "cut off"),
    ],
)
def test_a_server_that_misbehaves_is_an_outcome(reply: bytes, problem: str) -> None:
    assert outcome_of(reply).problem == problem


def test_an_address_without_a_server_is_one_sentence() -> None:
    with pytest.raises(InputError, match="write http://HOST:PORT"):
        Server(url="nowhere", model="m").address()
    with pytest.raises(EnvironmentProblem, match=r"no server answers at http://127\.0\.0\.1:1"):
        asyncio.run(send_all(Server(url="http://127.0.0.1:1", model="m"), [ASK]))


def test_a_reason_to_finish_ends_an_answer_too() -> None:
    assert outcome_of(stream(PIECE, FINISH)).problem is None


def body_of(server: Server, ask: Ask) -> dict[str, object]:
    read: dict[str, object] = json.loads(server.request(ask).partition(b"\r\n\r\n")[2])
    return read


def test_a_request_holds_what_was_said_before_and_no_field_that_is_left_out() -> None:
    ask = Ask(0.0, "c", Lengths(1, 4), history=("a", "b"), follows=0)
    plain = Server(url="http://127.0.0.1:1", model="m", extra={"ignore_eos": None, "seed": 1})
    body = body_of(plain, ask)
    assert body["prompt"] == "a\nb\nc"
    assert "ignore_eos" not in body
    assert body["seed"] == 1
    chat = body_of(Server(url="http://127.0.0.1:1", model="m", chat=True), ask)
    assert chat["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]


@pytest.mark.end_to_end
def test_turns_of_a_conversation_follow_each_other_and_find_their_beginnings_cached(
    capsys: pytest.CaptureFixture[str],
) -> None:
    workload = Workload(num_requests=10, mix="conversation", rate=50.0, thinking_seconds=0.01)
    asks = workload.asks()
    with running_server("fake", ["--max-model-len", "65536"]) as server:
        told = asyncio.run(send_all(Server(url=server.url, model="fake"), asks))
        summary = run_load(
            LoadOptions(
                server=Server(url=server.url, model="fake", chat=True), workload=workload, goals={}
            )
        )
    assert summary.num_whole == 10
    assert [one.problem for one in told] == [None] * 10
    for ask, one in zip(asks, told, strict=True):
        if ask.follows is not None:
            before = told[ask.follows]
            assert one.sent >= before.sent + before.pieces[-1]
            assert one.num_cached_tokens > before.num_prompt_tokens - 16
    assert "were found in the prefix cache" in capsys.readouterr().out


@pytest.mark.end_to_end
def test_a_real_server_is_measured_and_the_figures_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = Workload(num_requests=12, rate=100.0, mix="fixed", fixed=Lengths(20, 8))
    with running_server("fake") as server:
        for chat in (False, True):
            summary = run_load(
                LoadOptions(
                    server=Server(url=server.url, model="fake", chat=chat),
                    workload=workload,
                    max_concurrency=4,
                    goals={"ttft": 60_000},
                    json_path=tmp_path / "run.json",
                    picture_path=tmp_path / "run.svg",
                )
            )
            assert (summary.num_whole, summary.num_good, summary.answer_tokens) == (12, 12, 96)
        with pytest.raises(EnvironmentProblem, match=r"no request was answered: status 404 \(12\)"):
            run_load(
                LoadOptions(
                    server=Server(url=server.url, model="other"), workload=workload, goals={}
                )
            )
    assert "time to first token (ttft)" in capsys.readouterr().out
    kept = json.loads((tmp_path / "run.json").read_text())
    assert len(kept["outcomes"]) == 12
    assert (tmp_path / "run.svg").read_text().startswith("<svg")
