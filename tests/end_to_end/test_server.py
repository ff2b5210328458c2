"""The whole server with a scripted model, used as its clients use it."""

import asyncio
import json
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from os import kill

import httpx
import openai
import pytest

from banyan.client import Client
from tests.end_to_end.servers import Server, running_server, serve_command, wait_until

pytestmark = pytest.mark.end_to_end


def test_the_openai_sdk_chats_and_streams_the_same_answer(fake_server: Server) -> None:
    sdk = fake_server.sdk()
    whole = sdk.chat.completions.create(
        model="fake", messages=[{"role": "user", "content": "Hi"}], max_tokens=8, temperature=0
    )
    assert whole.usage is not None
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 8)
    stream = sdk.chat.completions.create(
        model="fake",
        messages=[{"role": "user", "content": "Hi"}],
        max_tokens=8,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    usage = chunks[-1].usage
    assert usage is not None
    # The second one finds what the first one computed; that alone may differ.
    assert usage.total_tokens == whole.usage.total_tokens


def test_the_openai_sdk_completes_with_logprobs(fake_server: Server) -> None:
    reply = fake_server.sdk().completions.create(
        model="fake", prompt=["a", "b"], max_tokens=3, logprobs=2, temperature=0
    )
    assert [choice.index for choice in reply.choices] == [0, 1]
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == reply.choices[0].text


def test_models_are_listed(fake_server: Server) -> None:
    assert [model.id for model in fake_server.sdk().models.list()] == ["fake"]


def test_errors_become_the_exceptions_of_the_sdk(fake_server: Server) -> None:
    sdk = fake_server.sdk()
    with pytest.raises(openai.NotFoundError, match="not served here"):
        sdk.completions.create(model="other", prompt="a")
    with pytest.raises(openai.BadRequestError, match="temperature=-1") as caught:
        sdk.completions.create(model="fake", prompt="a", temperature=-1)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="max_tokns is not a field"):
        sdk.completions.create(model="fake", prompt="a", extra_body={"max_tokns": 1})
    with pytest.raises(openai.BadRequestError, match="expected int, got str"):
        sdk.completions.create(model="fake", prompt="a", extra_body={"top_k": "x"})
    with pytest.raises(openai.BadRequestError, match="at most 19999"):
        sdk.completions.create(model="fake", prompt="x" * 20_000)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"model": ', 400, "invalid_json"),
        (b'{"model": "\xff"}', 400, "invalid_utf8"),
        (b"x" * 50_000_000, 413, "request_too_large"),
    ],
    ids=["malformed", "not UTF-8", "50 MB"],
)
def test_a_bad_body_is_answered(fake_server: Server, body: bytes, status: int, code: str) -> None:
    response = httpx.post(
        f"{fake_server.url}/v1/completions",
        content=body,
        headers={"content-type": "application/json"},
        timeout=30,
    )
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_64_clients_at_once_each_get_what_they_get_alone(fake_server: Server) -> None:
    async def ask(sdk: openai.AsyncOpenAI, number: int) -> str:
        stream = await sdk.completions.create(
            model="fake", prompt=f"prompt {number}", max_tokens=40, temperature=0, stream=True
        )
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def ask_all() -> tuple[list[str], list[str]]:
        async with fake_server.async_sdk() as sdk:
            together = await asyncio.gather(*(ask(sdk, number) for number in range(64)))
            alone = [await ask(sdk, number) for number in range(64)]
        return together, alone

    together, alone = asyncio.run(ask_all())
    assert together == alone
    assert len(set(alone)) == 64


def test_20_clients_that_hang_up_leave_no_block_behind(fake_server: Server) -> None:
    body = {"model": "fake", "prompt": "a", "max_tokens": 15_000, "ignore_eos": True}

    def begin_and_leave(stream: bool) -> None:
        url = f"{fake_server.url}/v1/completions"
        if stream:
            with httpx.stream("POST", url, json=body | {"stream": True}, timeout=30) as response:
                next(response.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url, json=body, timeout=0.3)

    threads = [threading.Thread(target=begin_and_leave, args=(n % 2 == 0,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until("every request ends", lambda: fake_server.metric("banyan_requests_running") == 0)
    assert fake_server.metric("banyan_requests_waiting") == 0
    assert fake_server.metric("banyan_blocks_free") == fake_server.metric("banyan_blocks")


def test_our_own_client_speaks_with_the_server(fake_server: Server) -> None:
    client = Client(fake_server.url)
    assert client.health().status == "ready"
    assert client.report()["kind"] == "decoder"


def test_an_engine_killed_under_load_hangs_nobody_and_is_back_in_three_seconds() -> None:
    with running_server("fake", ["--max-model-len", "4000"]) as server:

        def write(number: int, sdk: openai.OpenAI | None = None) -> str:
            stream = (sdk or server.sdk()).completions.create(
                model="fake",
                prompt=[number],
                max_tokens=600,
                temperature=0,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            text = next(stream).choices[0].text
            begun.append(number)
            return text + "".join(chunk.choices[0].text for chunk in stream)

        begun: list[int] = []
        alone = [write(number) for number in range(3)]
        # Made ahead: making it takes long enough for the engine to come back.
        asks_early = server.sdk()
        with ThreadPoolExecutor(16) as pool:
            answers = [pool.submit(write, number % 3) for number in range(16)]
            wait_until("all are running", lambda: len(begun) == 3 + 16)
            kill(server.engine_process_id(), signal.SIGKILL)
            wait_until("it is noticed", lambda: Client(server.url).health().status != "ready")
            # Whoever comes now waits for the next engine.
            assert write(0, asks_early) == alone[0]
            wait_until("the engine is back", lambda: Client(server.url).health().status == "ready")
            # Every stream goes on where it was, and ends as if nothing had happened.
            for number, answer in enumerate(answers):
                assert answer.result(timeout=60) == alone[number % 3]
        assert server.metric("banyan_engine_restarts_total") == 1


def test_a_stopping_server_finishes_its_streams_and_exits_with_0() -> None:
    with running_server("fake") as server:
        engine = server.engine_process_id()
        with httpx.stream(
            "POST",
            f"{server.url}/v1/completions",
            json={
                "model": "fake",
                "prompt": "a",
                "max_tokens": 1500,
                "stream": True,
                "ignore_eos": True,
            },
            timeout=30,
        ) as response:
            lines = response.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        last = json.loads(rest[-2].removeprefix("data: "))
        assert last["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(60) == 0
        with pytest.raises(ProcessLookupError):
            kill(engine, 0)


def test_an_engine_does_not_outlive_a_killed_server() -> None:
    with running_server("fake") as server:
        engine = server.engine_process_id()
        server.process.kill()

        def is_gone() -> bool:
            try:
                kill(engine, 0)
            except ProcessLookupError:
                return True
            return False

        wait_until("the engine ends", is_gone)


def test_a_taken_port_is_one_sentence_and_exit_code_1(fake_server: Server) -> None:
    port = int(fake_server.url.rpartition(":")[2])
    ended = subprocess.run(
        serve_command("fake", port=port), capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in ended.stderr


def test_a_model_that_is_not_there_is_one_sentence_and_exit_code_1() -> None:
    ended = subprocess.run(
        serve_command("/nowhere/at/all"), capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "/nowhere/at/all" in ended.stderr
    assert "Traceback" not in ended.stderr
