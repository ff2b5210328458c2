"""What follows an engine that ended by itself."""

import asyncio
import os
import signal

import pytest
from msgspec import structs

from banyan.engine.process.client import EngineClient
from banyan.engine.process.messages import EngineSettings, Failed
from tests.engine.process.clients import ready_again, run, write

pytestmark = pytest.mark.end_to_end


class Broken:
    """A recovery that fails in a way nobody thought of."""

    async def after(
        self, died: Failed, settings: EngineSettings, *, has_served: bool
    ) -> EngineSettings:
        raise ZeroDivisionError("a share of nothing")


def test_an_engine_follows_whatever_goes_wrong_in_choosing_it() -> None:
    async def test(client: EngineClient) -> None:
        assert client.process_id is not None
        os.kill(client.process_id, signal.SIGKILL)
        await ready_again(client)
        assert len(await write(client, "a")) == 4

    run(test, recovery=Broken())


class Other:
    """First what cannot start, then, after a while, what can."""

    async def after(
        self, died: Failed, settings: EngineSettings, *, has_served: bool
    ) -> EngineSettings:
        if has_served:
            return structs.replace(settings, model="/nowhere")
        await asyncio.sleep(0.2)
        return structs.replace(settings, model="fake")


def test_a_request_waits_while_something_else_is_tried_behind_a_failed_start() -> None:
    async def test(client: EngineClient) -> None:
        assert client.process_id is not None
        os.kill(client.process_id, signal.SIGKILL)
        while "/nowhere" not in client.status().detail:
            await asyncio.sleep(0)
        while client.status().state != "ready":
            # At every moment until then.
            asked = asyncio.create_task(write(client, "a"))
            await asyncio.sleep(0.02)
            if asked.done():
                assert len(asked.result()) == 4
            asked.cancel()
        assert len(await write(client, "b")) == 4

    run(test, recovery=Other())
