import asyncio

import httpx
import pytest

from tests.gateway.scripted import ScriptedBackend, connect


def answered(path: str, **headers: str) -> httpx.Response:
    async def exchange() -> httpx.Response:
        async with connect(ScriptedBackend()) as client:
            return await client.get(path, headers=headers)

    return asyncio.run(exchange())


@pytest.mark.parametrize("path", ["/health", "/nowhere"])
def test_every_answer_has_an_id_of_its_own(path: str) -> None:
    ids = {answered(path).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2


def test_the_callers_id_comes_back_unless_it_could_break_a_line() -> None:
    given = {"X-Request-Id": "job-7.a:b"}
    assert answered("/health", **given).headers["x-request-id"] == "job-7.a:b"
    assert answered("/health", **{"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"
    long = "x" * 129
    assert answered("/health", **{"X-Request-Id": long}).headers["x-request-id"] != long
