"""A server with more to do than it can, and prompts it has seen, through the SDK of OpenAI."""

import asyncio
from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Completion

from tests.end_to_end.servers import Server, running_server, wait_until

pytestmark = pytest.mark.end_to_end


SEATS, PLACES = 2, 4


@pytest.fixture(scope="module")
def small_server() -> Iterator[Server]:
    """Few seats, few places in the line."""
    options = ["--max-num-seqs", str(SEATS), "--max-waiting-requests", str(PLACES)]
    options += ["--max-model-len", "60000"]
    with running_server("fake", options) as server:
        yield server


# Tokens that keep a seat until the test gives them up, however slow the machine is.
LONG = 59_000


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


async def until_ended(tasks: "list[asyncio.Task[Completion]]", count: int) -> None:
    """Wait until so many are answered or refused."""
    async with asyncio.timeout(60):
        while sum(task.done() for task in tasks) < count:
            await asyncio.sleep(0.01)


async def give_up(tasks: "list[asyncio.Task[Completion]]") -> list[Completion | BaseException]:
    """Hang up on those that are not answered yet."""
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_admitted_requests_finish_and_the_rest_are_told_when_to_come_back(
    small_server: Server,
) -> None:
    async def flood() -> list[Completion | BaseException]:
        async with small_server.async_sdk() as sdk:
            tasks = [ask(sdk, number, 2000) for number in range(40)]
            return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(flood())
    answered = [result for result in results if isinstance(result, Completion)]
    refused = [result for result in results if isinstance(result, openai.APIStatusError)]
    assert len(answered) + len(refused) == 40
    assert len(answered) >= 4  # the line; the seats, too, once a step has been taken
    assert len(refused) >= 10
    for answer in answered:
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 2000
    for error in refused:
        assert error.status_code == 503
        assert int(error.response.headers["retry-after"]) >= 1
        assert "the queue is full: 4 of at most 4 answers wait already" in error.message
    wait_until("nothing runs any more", lambda: small_server.running() == 0)


def test_a_caller_with_less_displaces_a_flood_which_gets_429(small_server: Server) -> None:
    async def both() -> tuple[list[Completion | BaseException], Completion]:
        async with small_server.async_sdk() as sdk:
            flood = [ask(sdk, number, LONG, user="flood") for number in range(10)]
            while small_server.running() < SEATS:
                await asyncio.sleep(0.01)
            # The first wave filled the line before there were seats; this one fills it again.
            flood += [ask(sdk, number, LONG, user="flood") for number in range(10, 20)]
            too_many = len(flood) - SEATS - PLACES
            await until_ended(flood, too_many)
            light = ask(sdk, 99, user="light")
            await until_ended(flood, too_many + 1)
            return await give_up(flood), await light

    flood, light = asyncio.run(both())
    assert light.choices[0].finish_reason == "length"
    codes = {error.status_code for error in flood if isinstance(error, openai.APIStatusError)}
    assert 429 in codes
    assert codes <= {429, 503}


def test_a_deadline_that_cannot_be_met_is_answered_with_504(small_server: Server) -> None:
    async def late() -> Completion | BaseException:
        async with small_server.async_sdk() as sdk:
            busy = [ask(sdk, number, LONG) for number in range(SEATS + 1)]
            while small_server.running() < SEATS:
                await asyncio.sleep(0.01)
            late = ask(sdk, 9, deadline_seconds=0.05)
            (found,) = await asyncio.gather(late, return_exceptions=True)
            await give_up(busy)
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
