"""Ten times as many requests as can be served: those admitted finish, the rest are told when."""

import asyncio

import httpx
import pytest

from tests.end_to_end.servers import running_server

pytestmark = pytest.mark.end_to_end

SEATS, QUEUE, ASKED = 4, 8, 120


def test_under_ten_times_the_load_admitted_requests_finish_and_the_rest_get_retry_after() -> None:
    options = ["--max-num-seqs", str(SEATS), "--max-waiting-requests", str(QUEUE)]
    with running_server("fake", options) as server:
        body = {"model": "fake", "prompt": [1], "max_tokens": 800, "temperature": 0}
        body |= {"ignore_eos": True}

        async def ask(http: httpx.AsyncClient, number: int) -> httpx.Response:
            # Clients that give no weight to Retry-After: the worst there are.
            await asyncio.sleep(0.005 * number)
            return await http.post(f"{server.url}/v1/completions", json=body)

        async def all_at_once() -> list[httpx.Response]:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(timeout=60, limits=limits) as http:
                return await asyncio.gather(*(ask(http, number) for number in range(ASKED)))

        replies = asyncio.run(all_at_once())
        whole = [reply for reply in replies if reply.status_code == 200]
        refused = [reply for reply in replies if reply.status_code in {429, 503}]
        assert len(whole) + len(refused) == ASKED
        assert len(whole) >= SEATS
        assert len(refused) > ASKED // 4
        assert len({reply.json()["choices"][0]["text"] for reply in whole}) == 1
        assert all(reply.json()["usage"]["completion_tokens"] == 800 for reply in whole)
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
        assert server.running() == 0
