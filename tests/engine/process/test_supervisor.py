import asyncio
import os
import signal

import pytest
from msgspec import structs

from banyan.engine.options import EngineOptions
from banyan.engine.process.client import EngineClient
from banyan.foundation.errors import InputError
from tests.engine.process.clients import answers, ready_again, run, write

pytestmark = pytest.mark.end_to_end


def test_a_swap_lets_the_old_engine_finish_and_loses_nothing() -> None:
    async def test(client: EngineClient) -> None:
        alone = await answers(client, "alone")
        before = client.process_id
        old = asyncio.create_task(answers(client, "old"))
        await asyncio.sleep(0.05)
        longer = structs.replace(
            client.settings, options=EngineOptions(max_model_len=5000, max_num_seqs=8)
        )
        model = await client.swap(longer, drain_seconds=20)
        assert model.max_model_len == 5000
        assert client.process_id != before
        assert await answers(client, "new") == alone
        assert await old == alone
        assert client.status().num_restarts == 0
        assert before is not None
        while True:  # the old one ends once it has nothing to do
            try:
                os.kill(before, 0)
            except ProcessLookupError:
                break
            await asyncio.sleep(0.02)
        # What is started after a death is what was swapped in.
        assert client.process_id is not None
        os.kill(client.process_id, signal.SIGKILL)
        await ready_again(client)
        found = client.status().model
        assert found is not None
        assert found.max_model_len == 5000

    run(test)


def test_an_answer_that_outlasts_the_drain_of_a_swap_goes_on_in_the_new_engine() -> None:
    async def test(client: EngineClient) -> None:
        alone = await answers(client, "alone")
        old = asyncio.create_task(answers(client, "old"))
        await asyncio.sleep(0.05)
        await client.swap(client.settings, drain_seconds=0)
        assert await old == alone

    run(test)


def test_a_swap_that_fails_or_comes_twice_leaves_the_old_engine_serving() -> None:
    async def test(client: EngineClient) -> None:
        before = client.process_id
        wrong = structs.replace(client.settings, model="/nowhere")
        with pytest.raises(InputError, match="/nowhere"):
            await client.swap(wrong, drain_seconds=1)
        first = asyncio.create_task(client.swap(client.settings, drain_seconds=1))
        await asyncio.sleep(0)
        with pytest.raises(InputError, match="a swap is going on already"):
            await client.swap(client.settings, drain_seconds=1)
        assert client.process_id == before
        assert len(await write(client, "a")) == 4
        await first
        assert client.process_id != before

    run(test)
