"""Stopping, replacing and limiting a server while people use it."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from openai.types import Completion

from banyan.client import Client
from banyan.foundation.errors import EnvironmentProblem
from tests.end_to_end.servers import Server, running_server, wait_until

pytestmark = pytest.mark.end_to_end

LENGTH = 120
SEEDLING = Path(__file__).parents[2] / "models" / "seedling"


def write(server: Server, prompt: int, max_tokens: int = LENGTH) -> str:
    body = {"model": "fake", "prompt": [prompt], "max_tokens": max_tokens, "temperature": 0}
    answer = httpx.post(
        f"{server.url}/v1/completions", json=body | {"ignore_eos": True}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_no_request_is_dropped_while_the_model_is_replaced_again_and_again() -> None:
    with running_server("fake", ["--allow-swap"]) as server:
        alone = [write(server, prompt) for prompt in range(4)]
        is_over = threading.Event()
        failures: list[str] = []
        counts = [0] * 4

        def keep_asking(prompt: int) -> None:
            while not is_over.is_set():
                try:
                    assert write(server, prompt) == alone[prompt]
                    counts[prompt] += 1
                except Exception as error:
                    failures.append(repr(error))
                    return

        threads = [threading.Thread(target=keep_asking, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        engines = {server.newest_engine_process_id()}
        swap = httpx.post(f"{server.url}/v1/admin/swap", json={}, timeout=60)
        assert (swap.status_code, swap.json()["kind"]) == (200, "decoder")
        engines.add(server.newest_engine_process_id())
        server.process.send_signal(signal.SIGHUP)
        wait_until(
            "a third engine serves", lambda: server.newest_engine_process_id() not in engines
        )
        refused = httpx.post(f"{server.url}/v1/admin/swap", json={"model": "/nowhere"}, timeout=60)
        assert refused.status_code == 400
        assert "/nowhere" in refused.json()["error"]["message"]
        time.sleep(0.3)
        is_over.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert min(counts) > 0


def swap_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "banyan.cli.main", "swap", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.wide
def test_the_command_swaps_a_real_model_under_load_and_every_stream_ends_as_it_would() -> None:
    """Streams that began before, during and after: each is whole, and says the same."""
    options = ["--allow-swap", "--dtype", "float32", "--max-model-len", "256", "--threads", "1"]
    with running_server(str(SEEDLING), [*options, "--max-num-seqs", "8"]) as server:
        sdk = server.sdk()

        def stream(number: int) -> str:
            with sdk.completions.create(
                model=server.name,
                prompt=f"The {('river', 'tree', 'king')[number]} was",
                max_tokens=60,
                temperature=0,
                stream=True,
                extra_body={"ignore_eos": True},
            ) as pieces:
                return "".join(piece.choices[0].text for piece in pieces)

        alone = [stream(number) for number in range(3)]
        is_over = threading.Event()

        def keep_asking(number: int) -> list[str]:
            answers = [stream(number)]
            while not is_over.is_set():
                answers.append(stream(number))
            return answers

        with ThreadPoolExecutor(3) as pool:
            streams = [pool.submit(keep_asking, number) for number in range(3)]
            engine = server.newest_engine_process_id()
            try:
                done = swap_command(str(SEEDLING), "--url", server.url)
                assert server.newest_engine_process_id() != engine
                after = stream(0)
            finally:
                is_over.set()
            assert done.returncode == 0, done.stderr
            assert done.stdout == f"{server.url} now serves {SEEDLING}: decoder, 256 tokens\n"
            assert after == alone[0]
            for number, answered in enumerate(streams):
                assert set(answered.result()) == {alone[number]}


def test_the_command_says_why_nothing_was_replaced() -> None:
    with running_server("fake", ["--allow-swap"]) as server:
        refused = swap_command("/nowhere", "--url", server.url)
        assert refused.returncode == 1
        assert "/nowhere" in refused.stderr
        assert refused.stderr.splitlines()[-1].startswith("error: ")
        assert write(server, 1)


def test_a_model_is_replaced_over_http_only_where_the_operator_allows_it() -> None:
    with running_server("fake") as server:
        assert httpx.post(f"{server.url}/v1/admin/swap", json={}).status_code == 404
        refused = swap_command("--url", server.url)
        assert refused.returncode == 1
        assert "start it with --allow-swap" in refused.stderr


def test_a_draining_server_answers_503_with_retry_after_and_ends_at_its_limit() -> None:
    options = ["--drain-seconds", "2", "--max-model-len", "60000"]
    # One client, made ahead: making one for each question could take all of the two seconds.
    with running_server("fake", options) as server, httpx.Client(base_url=server.url) as client:
        said: list[str] = []

        def read() -> None:
            body = {"model": "fake", "prompt": "a", "max_tokens": 59_000, "stream": True}
            with httpx.stream(
                "POST",
                f"{server.url}/v1/completions",
                json=body | {"ignore_eos": True},
                timeout=60,
            ) as answer:
                said.extend(line for line in answer.iter_lines() if line)

        reader = threading.Thread(target=read)
        reader.start()
        wait_until("it streams", lambda: server.running() == 1)
        health = client.get("/health")
        server.process.send_signal(signal.SIGTERM)
        while health.status_code == 200:
            health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        assert health.headers["retry-after"] == "5"
        refused = client.post("/v1/completions", json={"model": "fake", "prompt": "a"})
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert server.process.wait(60) == 0
        reader.join()
        assert "shutting down" in said[-1]
        with pytest.raises(EnvironmentProblem):
            Client(server.url).health()


def test_one_caller_may_not_have_more_requests_than_allowed() -> None:
    options = ["--max-requests-per-caller", "2", "--max-model-len", "60000"]
    with running_server("fake", options) as server:
        sdk = server.sdk()

        def begin(max_tokens: int) -> "openai.Stream[Completion]":
            return sdk.completions.create(
                model="fake",
                prompt="a",
                max_tokens=max_tokens,
                stream=True,
                extra_body={"ignore_eos": True},
            )

        # Neither ends by itself, however slow the machine is.
        under_way = [begin(59_000) for _ in range(2)]
        with pytest.raises(openai.RateLimitError, match="requests under way") as refused:
            begin(1)
        assert refused.value.response.headers["retry-after"] == "1"
        under_way[0].close()

        def is_admitted() -> bool:
            try:
                return len(list(begin(1))) > 0
            except openai.RateLimitError:
                return False

        wait_until("one that ended makes room", is_admitted)
        under_way[1].close()


@pytest.mark.wide
def test_a_reader_who_never_reads_loses_his_answer_and_holds_up_nobody() -> None:
    asked = {"model": "fake", "prompt": "a", "max_tokens": 59_000, "stream": True}
    body = json.dumps(asked | {"ignore_eos": True})
    request = (
        "POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    with running_server("fake", ["--max-model-len", "60000"]) as server, socket.socket() as reader:
        # What the network keeps for him is small, so that the server has to.
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        reader.sendall(request.encode())
        wait_until("it streams", lambda: server.running() == 1)
        wait_until("the answer is given up", lambda: server.running() == 0, seconds=120)
        assert server.metric("vllm:generation_tokens_total{.*?}") < 59_000
        reply = server.sdk().completions.create(
            model="fake", prompt="b", max_tokens=3, extra_body={"ignore_eos": True}
        )
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 3
