"""Stopping, replacing and limiting a server while people use it."""

import signal
import threading
import time

import httpx
import pytest

from banyan.client import Client
from banyan.foundation.errors import EnvironmentProblem
from tests.end_to_end.servers import Server, running_server, wait_until

pytestmark = pytest.mark.end_to_end

LENGTH = 120


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


def test_a_model_is_replaced_over_http_only_where_the_operator_allows_it() -> None:
    with running_server("fake") as server:
        assert httpx.post(f"{server.url}/v1/admin/swap", json={}).status_code == 404


def test_a_draining_server_answers_503_with_retry_after_and_ends_at_its_limit() -> None:
    with running_server("fake", ["--drain-seconds", "1", "--max-model-len", "60000"]) as server:
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
        server.process.send_signal(signal.SIGTERM)
        health = httpx.get(f"{server.url}/health")
        while health.status_code == 200:
            health = httpx.get(f"{server.url}/health")
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        assert health.headers["retry-after"] == "5"
        refused = httpx.post(f"{server.url}/v1/completions", json={"model": "fake", "prompt": "a"})
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert server.process.wait(15) == 0
        reader.join()
        assert "shutting down" in said[-1]
        with pytest.raises(EnvironmentProblem):
            Client(server.url).health()


def test_one_caller_may_not_have_more_requests_than_allowed() -> None:
    with running_server("fake", ["--max-requests-per-caller", "2"]) as server:
        body = {"model": "fake", "prompt": "a", "max_tokens": 1500, "ignore_eos": True}
        url = f"{server.url}/v1/completions"
        replies: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda: replies.append(httpx.post(url, json=body, timeout=60)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        codes = sorted(reply.status_code for reply in replies)
        assert codes.count(200) >= 2
        assert set(codes) == {200, 429}
        refused = next(reply for reply in replies if reply.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert "requests under way" in refused.json()["error"]["message"]
