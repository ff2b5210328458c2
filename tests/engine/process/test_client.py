import asyncio
import os
import signal
import time
from contextlib import aclosing

import pytest

from banyan.engine.options import EngineOptions
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.process.caller_limit import CallerLimit
from banyan.engine.process.client import EngineClient
from banyan.engine.process.launcher import EngineProcess
from banyan.engine.process.messages import EngineSettings
from banyan.engine.process.pending import PendingRequests
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speech.transcript import TranscriptionOptions
from banyan.foundation.errors import (
    EngineStopped,
    InputError,
    Overloaded,
    RequestError,
    UnknownAdapter,
)
from tests.engine.process.clients import (
    FOREVER,
    answers,
    ready_again,
    run,
    write,
)

pytestmark = pytest.mark.end_to_end


def test_answers_stream_and_many_requests_do_not_disturb_each_other() -> None:
    async def test(client: EngineClient) -> None:
        alone = await write(client, "alone")
        assert len(alone) == 4
        together = await asyncio.gather(*(write(client, f"r{i}") for i in range(12)))
        assert set(together) == {alone}
        both = SamplingOptions(max_tokens=2, n=2, ignore_eos=True)
        indexes = [e.index async for e in client.generate("n", [1], both)]
        assert sorted(indexes) == [0, 0, 1, 1]

    run(test)


def test_closing_a_stream_frees_its_blocks() -> None:
    async def test(client: EngineClient) -> None:
        async with aclosing(client.generate("a", [1], FOREVER)) as events:
            await anext(events)
        while (counted := client.statistics()) is None or counted.num_running:
            await asyncio.sleep(0.01)
        assert counted.num_free_blocks == counted.num_blocks

    run(test)


def test_a_refused_request_raises_and_the_next_one_is_served() -> None:
    async def test(client: EngineClient) -> None:
        with pytest.raises(RequestError, match="together 20001"):
            await write(client, "a", SamplingOptions(max_tokens=19_999))
        with pytest.raises(RequestError, match="makes no embeddings"):
            await client.pool("b", [PoolingPrompt((1,))])
        assert len(await write(client, "c")) == 4

    run(test)


def test_requests_for_vectors_and_transcripts_count_for_their_caller() -> None:
    async def test(client: EngineClient) -> None:
        client._callers = CallerLimit(1)
        async with aclosing(client.generate("a", [1], FOREVER, RequestContext(caller="x"))) as one:
            await anext(one)
            with pytest.raises(Overloaded, match="1 requests under way"):
                await client.pool("b", [PoolingPrompt((1,))], caller="x")
            with pytest.raises(Overloaded, match="1 requests under way"):
                await client.transcribe("c", b"", TranscriptionOptions(), caller="x")

    run(test)


def test_an_adapter_that_is_not_loaded_is_told_from_other_mistakes() -> None:
    async def test(client: EngineClient) -> None:
        context = RequestContext(adapter="poems")
        with pytest.raises(UnknownAdapter, match="no adapter 'poems' is loaded"):
            await anext(client.generate("a", [1], FOREVER, context))

    run(test)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_answer_goes_on_in_the_next_engine_as_if_nothing_had_happened(number: int) -> None:
    async def test(client: EngineClient) -> None:
        alone = await answers(client, "alone")
        begun = asyncio.Event()
        writing = asyncio.create_task(answers(client, "a", begun=begun))
        await begun.wait()
        assert client.process_id is not None
        assert not writing.done()
        os.kill(client.process_id, number)
        assert await writing == alone
        assert client.status().num_restarts == 1

    run(test)


def test_a_request_that_ends_two_engines_before_a_token_fails_and_says_why() -> None:
    async def test(client: EngineClient) -> None:
        writing = asyncio.create_task(write(client, "a", FOREVER))
        await asyncio.sleep(0.2)
        for restarts in (0, 1):
            # Without a pause, so that the new engine dies before it can say a token.
            while client.status().num_restarts != restarts or client.status().state != "ready":
                await asyncio.sleep(0)
            assert client.process_id is not None
            os.kill(client.process_id, signal.SIGKILL)
        with pytest.raises(EngineStopped, match=r"killed by signal 9 \(SIGKILL\)"):
            await writing
        while client.status().state != "ready":
            await asyncio.sleep(0.02)
        assert len(await write(client, "c")) == 4

    run(test)


def test_without_resuming_a_killed_engine_fails_what_is_in_flight_and_comes_back() -> None:
    async def test(client: EngineClient) -> None:
        writing = asyncio.create_task(write(client, "a", FOREVER))
        await asyncio.sleep(0.2)
        assert client.process_id is not None
        os.kill(client.process_id, signal.SIGKILL)
        with pytest.raises(EngineStopped, match=r"killed by signal 9 \(SIGKILL\)"):
            await writing
        with pytest.raises(EngineStopped, match=r"signal 9.*again"):
            await write(client, "b")
        await ready_again(client)
        assert len(await write(client, "c")) == 4

    run(test, resume_seconds=0)


def test_a_silent_engine_is_killed_and_replaced() -> None:
    async def test(client: EngineClient) -> None:
        while client.status().state == "ready":
            await asyncio.sleep(0.01)
        assert "did not answer for 0.5 s" in client.status().detail
        await ready_again(client)
        assert len(await write(client, "b")) == 4

    run(test, silence_seconds=0.5, heartbeat_seconds=50.0)


def test_a_request_that_comes_behind_a_death_waits_for_the_next_engine() -> None:
    async def test(client: EngineClient) -> None:
        assert client.process_id is not None
        os.kill(client.process_id, signal.SIGKILL)
        while client.status().state == "ready":
            await asyncio.sleep(0)
        assert len(await write(client, "a")) == 4
        assert client.status().num_restarts == 1

    run(test)


def test_a_server_that_was_stopped_itself_finds_its_engine_well() -> None:
    async def test(client: EngineClient) -> None:
        for _ in range(2):
            time.sleep(0.7)  # nothing of this process runs, as after Ctrl-Z
            await asyncio.sleep(0.1)
        assert client.status().num_restarts == 0
        assert client.status().state == "ready"

    run(test, silence_seconds=0.5)


def test_a_client_that_drains_while_no_engine_is_there_finishes_what_waits_for_the_next() -> None:
    async def test(client: EngineClient) -> None:
        alone = await answers(client, "alone")
        begun = asyncio.Event()
        writing = asyncio.create_task(answers(client, "a", begun=begun))
        await begun.wait()
        assert client.process_id is not None
        os.kill(client.process_id, signal.SIGKILL)
        while client.status().state == "ready":
            await asyncio.sleep(0)
        client.drain()
        assert await client.drained(60)
        assert writing.done()
        assert writing.result() == alone

    run(test)


def test_a_draining_client_finishes_what_it_has_and_takes_nothing_new() -> None:
    async def test(client: EngineClient) -> None:
        writing = asyncio.create_task(
            write(client, "a", SamplingOptions(max_tokens=300, temperature=0))
        )
        endless = asyncio.create_task(write(client, "b", FOREVER))
        await asyncio.sleep(0.05)
        client.drain()
        assert client.status().state == "draining"
        with pytest.raises(EngineStopped, match=r"shutting down.*try again"):
            await write(client, "c")
        assert not await client.drained(0.05)
        assert len(await writing) == 300
        endless.cancel()
        assert await client.drained(60)

    run(test)


def test_closing_the_client_fails_what_is_in_flight() -> None:
    async def test(client: EngineClient) -> None:
        writing = asyncio.create_task(write(client, "a", FOREVER))
        await asyncio.sleep(0.1)
        await client.close()
        with pytest.raises(EngineStopped, match="shutting down"):
            await writing
        with pytest.raises(EngineStopped, match="shutting down"):
            await write(client, "b")

    run(test)


def test_a_model_that_cannot_be_loaded_fails_the_start_with_its_own_sentence() -> None:
    async def start() -> None:
        settings = EngineSettings(
            model="/nowhere", options=EngineOptions(), cache_directory="/none"
        )
        client = EngineClient(settings)
        try:
            with pytest.raises(InputError, match="/nowhere"):
                await client.start()
            assert client.status().state == "stopped"
        finally:
            await client.close()

    asyncio.run(start())


def test_a_start_can_be_given_up() -> None:
    async def give_up() -> None:
        settings = EngineSettings(model="fake", options=EngineOptions(), cache_directory="/none")
        client = EngineClient(settings)
        starting = asyncio.create_task(client.start())
        while client.process_id is None:
            await asyncio.sleep(0)
        number = client.process_id
        await asyncio.wait_for(client.close(), timeout=30)
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(give_up())


def test_a_signal_to_stop_is_left_to_the_parent() -> None:
    async def test(client: EngineClient) -> None:
        async with aclosing(client.generate("a", [1], FOREVER)) as events:
            await anext(events)
            assert client.process_id is not None
            os.kill(client.process_id, signal.SIGTERM)
            os.kill(client.process_id, signal.SIGINT)
            for _ in range(20):
                await anext(events)
        assert client.status().num_restarts == 0

    run(test)


def test_a_report_that_cannot_be_followed_fails_what_is_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def deliver(self: PendingRequests, report: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(PendingRequests, "deliver", deliver)

    async def test(client: EngineClient) -> None:
        with pytest.raises(EngineStopped, match="unreadable report: oh"):
            # The idle engine's signs of life may have ended it already.
            await write(client, "a")

    run(test, first_delay_seconds=5.0, resume_seconds=0)


def test_a_dead_engine_is_known_to_be_dead_before_it_is_cleaned_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close = EngineProcess.close

    async def test(client: EngineClient) -> None:
        seen: list[tuple[str, str]] = []

        async def observed_close(process: EngineProcess) -> None:
            seen.append((client.status().state, client.status().detail))
            await close(process)

        monkeypatch.setattr(EngineProcess, "close", observed_close)
        assert client.process_id is not None
        os.kill(client.process_id, signal.SIGKILL)
        await ready_again(client)
        assert seen == [("stopped", "the engine process was killed by signal 9 (SIGKILL)")]

    run(test)


def test_closing_the_client_while_a_dead_engine_is_cleaned_up_waits_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close = EngineProcess.close
    closed: list[int] = []

    async def slow_close(process: EngineProcess) -> None:
        await asyncio.sleep(0.1)
        await close(process)
        closed.append(process.process_id)

    async def test(client: EngineClient) -> None:
        monkeypatch.setattr(EngineProcess, "close", slow_close)
        process_id = client.process_id
        assert process_id is not None
        os.kill(process_id, signal.SIGKILL)
        while client.process_id is not None:
            await asyncio.sleep(0.01)
        await client.close()
        assert closed == [process_id]

    run(test)
