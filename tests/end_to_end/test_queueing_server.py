"""A server with more to do than it can, and prompts it has seen, through the SDK of OpenAI."""

import asyncio
from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Completion

from tests.end_to_end.servers import Server, running_server, wait_until

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def small_server() -> Iterator[Server]:
    """Two seats, four places in the line."""
    options = ["--max-num-seqs", "2", "--max-waiting-requests", "4", "--max-model-len", "8192"]
    with running_server("fake", options) as server:
        yield server


# Tokens that keep a seat for about half a second, the time in which a test must do its part.
LONG = 6000


def ask(
    sdk: AsyncOpenAI, number: int, max_tokens: int = 400, **more: object
) -> "asyncio.Task[Completion]":
    return asyncio.create_task(
        sdk.completions.create(
            model="fake",
            prompt=f"question {number}",
            max_tokens=max_tokens,
            temperature=0,
            extra_body={"ignore_eos": True, **more},
        )
    )


def test_admitted_requests_finish_and_the_rest_are_told_when_to_come_back(
    small_server: Server,
) -> None:
    async def flood() -> list[Completion | BaseException]:
        async with small_server.async_sdk() as sdk:
            tasks = [ask(sdk, number) for number in range(40)]
            return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(flood())
    answered = [result for result in results if isinstance(result, Completion)]
    refused = [result for result in results if isinstance(result, openai.APIStatusError)]
    assert len(answered) + len(refused) == 40
    assert len(answered) >= 4  # the line; the seats, too, once a step has been taken
    assert len(refused) >= 10
    for answer in answered:
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 400
    for error in refused:
        assert error.status_code == 503
        assert int(error.response.headers["retry-after"]) >= 1
        assert "the queue is full: 4 of at most 4 answers wait already" in error.message
    wait_until("nothing runs any more", lambda: small_server.running() == 0)


def test_a_caller_with_less_displaces_a_flood_which_gets_429(small_server: Server) -> None:
    async def both() -> tuple[list[Completion | BaseException], Completion]:
        async with small_server.async_sdk() as sdk:
            flood = [ask(sdk, number, LONG, user="flood") for number in range(10)]
            while small_server.running() < 2:
                await asyncio.sleep(0.01)
            # The first wave filled the line before there were seats; this one fills it again.
            flood += [ask(sdk, number, LONG, user="flood") for number in range(10, 20)]
            await asyncio.sleep(0.2)
            light = await ask(sdk, 99, user="light")
            return await asyncio.gather(*flood, return_exceptions=True), light

    flood, light = asyncio.run(both())
    assert light.choices[0].finish_reason == "length"
    codes = {error.status_code for error in flood if isinstance(error, openai.APIStatusError)}
    assert 429 in codes
    assert codes <= {429, 503}


def test_a_deadline_that_cannot_be_met_is_answered_with_504(small_server: Server) -> None:
    async def late() -> Completion | BaseException:
        async with small_server.async_sdk() as sdk:
            busy = [ask(sdk, number, LONG) for number in range(3)]
            while small_server.running() < 2:
                await asyncio.sleep(0.01)
            late = ask(sdk, 9, deadline_seconds=0.05)
            (found,) = await asyncio.gather(late, return_exceptions=True)
            await asyncio.gather(*busy)
            return found

    error = asyncio.run(late())
    assert isinstance(error, openai.APIStatusError), error
    assert error.status_code == 504
    assert "could not begin within deadline_seconds=0.05" in error.message


def test_a_prompt_seen_before_is_reported_as_cached_but_not_to_another_salt(
    small_server: Server,
) -> None:
    def cached(salt: str) -> int:
        reply = small_server.sdk().completions.create(
            model="fake", prompt="x" * 500, max_tokens=2, extra_body={"cache_salt": salt}
        )
        assert reply.usage is not None
        assert reply.usage.prompt_tokens_details is not None
        return reply.usage.prompt_tokens_details.cached_tokens or 0

    assert [cached("a"), cached("a"), cached("b"), cached("a")] == [0, 496, 0, 496]
