"""Replicas of a plan: real processes with a fake engine, used as one."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from banyan.engine.options import EngineOptions
from banyan.engine.process.messages import EngineSettings
from banyan.engine.process.replicas import ReplicaClient, settings_of_replicas
from banyan.engine.process.status import EngineStatus
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import EngineStopped, InputError
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import parse_plan, print_plan

LONG = SamplingOptions(max_tokens=600, temperature=1.0, seed=7, ignore_eos=True)
SHORT = SamplingOptions(max_tokens=4, temperature=0)


def replica(*devices: str, most: int = 0) -> Replica:
    return Replica((Stage(0, 2, devices),), max_sequences=most)


def settings_with(*replicas: Replica, **options: object) -> EngineSettings:
    plan = print_plan(
        Plan(model="fake", model_fingerprint="", num_layers=2, replicas=tuple(replicas))
    )
    chosen = EngineOptions(plan=plan, max_model_len=2000, **options)  # type: ignore[arg-type]
    return EngineSettings(
        model="fake", options=chosen, cache_directory="/none", heartbeat_seconds=0.05
    )


def run(test: Callable[[ReplicaClient], Awaitable[None]], **options: object) -> None:
    """Run a test with two replicas; they are always closed."""

    async def whole() -> None:
        client = ReplicaClient(settings_with(replica("a"), replica("b"), **options))
        try:
            await client.start()
            await asyncio.wait_for(test(client), timeout=60)
        finally:
            await client.close()

    asyncio.run(whole())


async def tokens_of(client: ReplicaClient, name: str, prompt: list[int]) -> list[int]:
    found: list[int] = []
    async for event in client.generate(name, prompt, LONG):
        found += event.token_ids
    return found


def steps_of(client: ReplicaClient) -> list[int]:
    return [counted.num_steps if counted else 0 for _, counted in client.replicas()]


@pytest.mark.end_to_end
def test_requests_go_to_both_and_a_conversation_stays_where_it_is() -> None:
    async def test(client: ReplicaClient) -> None:
        prompts = [[number] * 64 for number in (1, 2)]
        found = await asyncio.gather(
            *(tokens_of(client, str(n), prompt) for n, prompt in enumerate(prompts))
        )
        before = steps_of(client)
        assert min(before) > 0
        # The second prompt and what was said: its replica has their blocks.
        async for _ in client.generate("on", [*prompts[1], *found[1], 5], SHORT):
            pass
        after = steps_of(client)
        assert after[0] == before[0]
        assert after[1] > before[1]
        counted = client.statistics()
        assert counted is not None
        assert counted.num_steps == sum(after)

    run(test)


@pytest.mark.end_to_end
def test_another_replica_goes_on_with_what_a_dead_one_began() -> None:
    async def test(client: ReplicaClient) -> None:
        alone = await tokens_of(client, "alone", [1, 2, 3])
        told: list[int] = []
        async with aclosing(client.generate("a", [1, 2, 3], LONG)) as events:
            async for event in events:
                told += event.token_ids
                if len(told) == 1:
                    os.kill(client.process_ids[0] or 0, signal.SIGKILL)
        assert told == alone
        assert client.status().state == "ready"
        # The dead one comes back by itself.
        while client.status().num_restarts == 0 or len(ready(client)) < 2:
            await asyncio.sleep(0.02)

    run(test)


def ready(client: ReplicaClient) -> list[EngineStatus]:
    return [status for status, _ in client.replicas() if status.state == "ready"]


@pytest.mark.end_to_end
def test_a_request_that_comes_when_all_replicas_are_dead_waits_for_the_first_to_follow() -> None:
    async def test(client: ReplicaClient) -> None:
        for number in client.process_ids:
            assert number is not None
            os.kill(number, signal.SIGKILL)
        while client.status().state == "ready":
            await asyncio.sleep(0)
        assert len(await tokens_of(client, "a", [1, 2])) == 600

    run(test)


def test_a_server_that_drains_takes_no_more() -> None:
    async def test(client: ReplicaClient) -> None:
        client.drain()
        with pytest.raises(EngineStopped, match="shutting down"):
            await tokens_of(client, "late", [1])
        assert await client.drained(5.0)

    run(test)


@pytest.mark.end_to_end
def test_adapters_are_on_every_replica(tmp_path: Path) -> None:
    # What the fake engine takes for an adapter.
    (tmp_path / "adapter_config.json").write_text("one")

    async def test(client: ReplicaClient) -> None:
        await client.load_adapter("one", str(tmp_path))
        for status, _ in client.replicas():
            assert status.model is not None
            assert [adapter.name for adapter in status.model.adapters] == ["one"]
        await client.unload_adapter("one")
        model = client.status().model
        assert model is not None
        assert model.adapters == ()

    run(test, enable_lora=True)


def test_each_replica_has_its_part_of_the_plan_and_of_memory() -> None:
    settings = settings_with(
        replica("a", "b", most=4),
        replica("c", most=100),
        plan_workers=(("a", "process:cpu"), ("c", "tcp://far:1")),
        prefix_store="/store",
    )
    first, second = settings_of_replicas(settings, 1000)
    assert [parse_plan(each.options.plan or "").replicas for each in (first, second)] == [
        (replica("a", "b", most=4),),
        (replica("c", most=100),),
    ]
    assert first.options.plan_workers == (("a", "process:cpu"),)
    assert second.options.plan_workers == (("c", "tcp://far:1"),)
    assert (first.options.max_num_seqs, second.options.max_num_seqs) == (4, 64)
    assert first.options.memory == second.options.memory == "500"
    assert second.options.prefix_store == "/store/replica-1"


def test_replicas_that_share_a_device_are_refused_before_anything_starts() -> None:
    with pytest.raises(InputError, match="2 replicas use device a; replicas share nothing"):
        settings_of_replicas(settings_with(replica("a"), replica("a", "b")), 1000)
