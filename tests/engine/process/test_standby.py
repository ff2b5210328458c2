"""A process that stands by: taken once, replaced when it died, never left behind."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest
from msgspec import structs

from banyan.engine.options import EngineOptions
from banyan.engine.process.client import EngineClient
from banyan.engine.process.messages import EngineSettings
from banyan.engine.process.standby import Standby
from banyan.foundation.errors import InputError
from tests.engine.process.clients import answers, run
from tests.engine.process.test_launcher import is_running

pytestmark = pytest.mark.end_to_end

SETTINGS = EngineSettings(model="fake", options=EngineOptions(), cache_directory="/none")


def standing_by(test: Callable[[Standby], Awaitable[None]], *, is_kept: bool = True) -> None:
    async def whole() -> None:
        standby = Standby(is_kept=is_kept)
        try:
            await asyncio.wait_for(test(standby), 240)
        finally:
            await standby.close()

    asyncio.run(whole())


async def waiting(standby: Standby) -> int:
    """The number of the process that stands by, once there is one."""
    while standby._process is None:
        await asyncio.sleep(0.01)
    return standby._process.process_id


def test_a_process_that_stands_by_is_taken_once() -> None:
    async def test(standby: Standby) -> None:
        standby.prepare(SETTINGS)
        number = await waiting(standby)
        first = await standby.take()
        second = await standby.take()
        assert first.process_id == number != second.process_id
        for process in (first, second):
            process.kill()
            await process.close()

    standing_by(test)


def test_one_that_died_meanwhile_is_replaced() -> None:
    async def test(standby: Standby) -> None:
        standby.prepare(SETTINGS)
        number = await waiting(standby)
        os.kill(number, signal.SIGKILL)
        while is_running(number):
            await asyncio.sleep(0.01)
        taken = await standby.take()
        assert taken.process_id != number
        taken.kill()
        await taken.close()

    standing_by(test)


def test_a_newer_order_prepares_the_same_process_and_closing_ends_it() -> None:
    async def test(standby: Standby) -> None:
        standby.prepare(SETTINGS)
        number = await waiting(standby)
        standby.prepare(SETTINGS)
        await asyncio.sleep(0.4)
        assert await waiting(standby) == number
        await standby.close()
        assert not is_running(number)

    standing_by(test)


def test_one_that_died_leaves_no_folder_when_another_is_prepared() -> None:
    async def test(standby: Standby) -> None:
        standby.prepare(SETTINGS)
        number = await waiting(standby)
        assert standby._process is not None
        folder = standby._process._folder
        os.kill(number, signal.SIGKILL)
        while standby._process.is_alive:
            await asyncio.sleep(0.01)
        standby.prepare(SETTINGS)
        while standby._process is None or standby._process.process_id == number:
            await asyncio.sleep(0.01)
        assert not folder.exists()

    standing_by(test)


def test_one_that_is_being_launched_is_not_left_behind_by_two_orders_and_an_end() -> None:
    async def test(standby: Standby) -> None:
        standby.prepare(SETTINGS)
        await asyncio.sleep(0.301)
        standby.prepare(SETTINGS)
        await asyncio.sleep(0)
        await standby.close()
        standby.prepare(SETTINGS)
        await asyncio.sleep(0.05)
        assert standby._process is None
        assert standby._preparing is None

    standing_by(test)


def test_a_swap_that_fails_lets_another_process_stand_by() -> None:
    async def test(client: EngineClient) -> None:
        standby = client._engines._standby
        number = await waiting(standby)
        with pytest.raises(InputError, match="/nowhere"):
            await client.swap(structs.replace(client.settings, model="/nowhere"), drain_seconds=1)
        assert await waiting(standby) != number

    run(test, keeps_standby=True)


def test_none_stands_by_where_none_is_kept() -> None:
    async def test(standby: Standby) -> None:
        standby.prepare(SETTINGS)
        assert standby._preparing is None

    standing_by(test, is_kept=False)


def test_an_answer_goes_on_in_the_engine_that_stood_by() -> None:
    async def test(client: EngineClient) -> None:
        alone = await answers(client, "alone")
        standby = client._engines._standby
        number = await waiting(standby)
        writing = asyncio.create_task(answers(client, "a"))
        await asyncio.sleep(0.1)
        assert client.process_id is not None
        os.kill(client.process_id, signal.SIGKILL)
        assert await writing == alone
        assert client.process_id == number

    run(test, keeps_standby=True)
