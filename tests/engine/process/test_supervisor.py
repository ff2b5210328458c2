import asyncio
import os
import signal

import pytest
from msgspec import structs

from banyan.engine.options import EngineOptions
from banyan.engine.process.client import EngineClient
from banyan.engine.process.messages import EngineSettings, Failed
from banyan.foundation.errors import EngineStopped, InputError
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


def test_a_move_takes_up_every_request_and_new_ones_wait_for_the_next_engine() -> None:
    async def test(client: EngineClient) -> None:
        alone = await answers(client, "alone")
        before = client.process_id
        under_way = [asyncio.create_task(answers(client, f"old{n}")) for n in range(3)]
        await asyncio.sleep(0.05)
        moving = asyncio.create_task(client.move(shorter(client), "b is drained"))
        while client.status().detail != "b is drained; requests wait for the next engine":
            await asyncio.sleep(0.001)
        assert client.status().state == "ready"
        late = asyncio.create_task(answers(client, "late"))
        assert (await moving).max_model_len == 5000
        assert [await each for each in (*under_way, late)] == [alone] * 4
        assert client.process_id != before
        assert client.status().num_restarts == 0

    run(test)


def test_moves_are_never_held_against_a_request_that_has_no_token_yet() -> None:
    async def test(client: EngineClient) -> None:
        asked = [asyncio.create_task(write(client, f"r{n}")) for n in range(2)]
        for _ in range(2):
            await asyncio.sleep(0)
            await client.move(client.settings, "again")
        assert len({await each for each in asked}) == 1

    run(test)


def test_after_a_move_that_fails_the_engine_is_what_recovery_says() -> None:
    class Back:
        """The settings from before, once."""

        def __init__(self) -> None:
            self.told: list[tuple[str, bool]] = []
            self.good: EngineSettings | None = None

        async def after(
            self, died: Failed, settings: EngineSettings, *, has_served: bool
        ) -> EngineSettings:
            self.told.append((died.message, has_served))
            return self.good or settings

    back = Back()

    async def test(client: EngineClient) -> None:
        back.good = client.settings
        alone = await answers(client, "alone")
        old = asyncio.create_task(answers(client, "old"))
        await asyncio.sleep(0.05)
        wrong = structs.replace(client.settings, model="/nowhere")
        with pytest.raises(InputError, match="/nowhere"):
            await client.move(wrong, "trying")
        assert await old == alone
        assert client.settings == back.good
        ((message, has_served),) = back.told
        assert "/nowhere" in message
        assert not has_served
        assert client.process_id is not None
        os.kill(client.process_id, signal.SIGKILL)
        while len(back.told) < 2:
            await asyncio.sleep(0.01)
        assert back.told[1][1]

    run(test, recovery=back)


def test_a_client_closed_in_the_middle_of_a_move_leaves_no_process() -> None:
    async def test(client: EngineClient) -> None:
        before = client.process_id
        moving = asyncio.create_task(client.move(client.settings, "again"))
        while client.process_id == before:
            await asyncio.sleep(0.001)
        after = client.process_id
        await client.close()
        with pytest.raises(EngineStopped):
            await moving
        for number in (before, after):
            assert number is not None
            with pytest.raises(ProcessLookupError):
                os.kill(number, 0)

    run(test)


def shorter(client: EngineClient) -> EngineSettings:
    """Settings that are told from the present ones by the length of a request."""
    options = EngineOptions(max_model_len=5000, max_num_seqs=8)
    return structs.replace(client.settings, options=options)
