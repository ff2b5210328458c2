"""Clients of a fake engine in a process of its own, and what tests ask of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from banyan.engine.options import EngineOptions
from banyan.engine.process.client import EngineClient
from banyan.engine.process.messages import EngineSettings
from banyan.engine.process.recovery import Recovery
from banyan.engine.process.supervisor import RestartPolicy
from banyan.engine.sampling import SamplingOptions

FOREVER = SamplingOptions(ignore_eos=True, temperature=0)
SHORT = SamplingOptions(max_tokens=4, temperature=0)
LONG = SamplingOptions(max_tokens=800, temperature=1.0, seed=7, n=2, ignore_eos=True, stop=("qq",))


def run(
    test: Callable[[EngineClient], Awaitable[None]],
    *,
    recovery: Recovery | None = None,
    heartbeat_seconds: float = 0.05,
    **policy: Any,
) -> None:
    """Run a test with a client of a fake engine; it is always closed."""

    async def whole() -> None:
        async with started(RestartPolicy(**policy), recovery, heartbeat_seconds) as client:
            await asyncio.wait_for(test(client), timeout=240)

    asyncio.run(whole())


@asynccontextmanager
async def started(
    policy: RestartPolicy, recovery: Recovery | None = None, heartbeat_seconds: float = 0.05
) -> AsyncIterator[EngineClient]:
    options = EngineOptions(max_model_len=20_000, max_num_seqs=8)
    settings = EngineSettings(
        model="fake",
        options=options,
        cache_directory="/none",
        heartbeat_seconds=heartbeat_seconds,
    )
    client = EngineClient(settings, policy=policy, recovery=recovery)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def write(client: EngineClient, request_id: str, options: SamplingOptions = SHORT) -> str:
    return "".join([e.text async for e in client.generate(request_id, [1, 2], options)])


async def ready_again(client: EngineClient) -> None:
    while client.status().num_restarts == 0 or client.status().state != "ready":
        await asyncio.sleep(0.02)


async def answers(
    client: EngineClient, request_id: str, *, begun: asyncio.Event | None = None
) -> list[tuple[tuple[int, ...], str, str]]:
    """Tokens, text and ending of both answers to LONG; counts are checked on the way.

    `begun` is set by the first tokens.
    """
    tokens: list[list[int]] = [[], []]
    texts, endings = ["", ""], ["", ""]
    async for event in client.generate(request_id, [1, 2], LONG):
        if begun is not None:
            begun.set()
        tokens[event.index] += event.token_ids
        texts[event.index] += event.text
        endings[event.index] = event.finish_reason or ""
        assert event.num_generated_tokens == len(tokens[event.index])
    return [(tuple(t), text, end) for t, text, end in zip(tokens, texts, endings, strict=True)]
