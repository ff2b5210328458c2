import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from banyan.engine.events import TokenEvent, TokenLogprob
from banyan.engine.fake import FakeTokenizer
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.gateway.generation import Answers, Part, run_prompts
from banyan.gateway.metrics.metrics import Metrics
from banyan.gateway.metrics.naming import Naming
from banyan.gateway.services import GatewaySettings, Services
from banyan.gateway.text import PromptText, plain_chat
from banyan.models.vision.media import Media
from tests.gateway.scripted import ScriptedBackend


def event(index: int, logprob: float, *, num_cached: int = 0) -> TokenEvent:
    return TokenEvent(
        request_id="r",
        index=index,
        token_ids=(1,),
        text=str(index),
        logprobs=(TokenLogprob(1, logprob),),
        finish_reason="stop",
        num_prompt_tokens=10,
        num_generated_tokens=1,
        num_cached_tokens=num_cached,
    )


def test_the_best_are_the_likeliest_per_token_prompt_by_prompt() -> None:
    answers = Answers(num_prompts=2, num_choices=3)
    for index, logprob in enumerate((-3.0, -1.0, -2.0, -1.0, -9.0, -0.5)):
        answers.add(Part(index, event(index, logprob)))
    # A second token makes the second answer likelier per token than the third, not in all.
    answers.add(Part(2, event(2, -0.1)))
    assert [answer.text for answer in answers.best(1)] == ["1", "5"]
    assert [answer.text for answer in answers.best(2)] == ["1", "22", "5", "3"]
    assert answers.best(3) == answers.items


def test_cached_tokens_of_a_prompt_count_once() -> None:
    answers = Answers(num_prompts=2, num_choices=2)
    for index in range(4):
        answers.add(Part(index, event(index, -1.0, num_cached=8)))
    usage = answers.usage()
    assert usage.prompt_tokens == 20
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 16


class Endless(ScriptedBackend):
    """Writes for ever; counts what it wrote."""

    num_written = 0

    async def generate(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        options: SamplingOptions,
        context: RequestContext = ORDINARY,
        media: Sequence[Media] = (),
    ) -> AsyncGenerator[TokenEvent, None]:
        while True:
            await asyncio.sleep(0)
            self.num_written += 1
            yield replace(event(0, -1.0), finish_reason=None)


def test_a_slow_reader_of_several_prompts_holds_their_writers_up() -> None:
    backend = Endless()
    services = Services(
        backend=backend,
        text=PromptText(FakeTokenizer(), plain_chat),
        settings=GatewaySettings(model_name="tiny", created=7),
        metrics=Metrics(backend, Naming("tiny", "both")),
    )

    async def test() -> int:
        options = [SamplingOptions()] * 2
        parts = run_prompts(services, [[1], [2]], options, request_id="r", arrived=0.0)
        async with aclosing(parts):
            await anext(parts)
            for _ in range(2000):
                await asyncio.sleep(0)
            return backend.num_written

    assert asyncio.run(test()) < 100
