"""Requests of many kinds, and what they get while others come and go."""

import random

import numpy as np

from banyan import LLM, SamplingOptions
from banyan.engine.events import TokenEvent
from banyan.engine.outputs import CompletionOutput, gather_answer

Request = tuple[list[int], SamplingOptions]


def requests_of(count: int, *, longest_prompt: int, vocab_size: int) -> list[Request]:
    """Greedy and seeded requests of random lengths, each with the probabilities of its tokens."""
    generator = np.random.default_rng(count)
    found = []
    for number in range(count):
        length = int(generator.integers(1, longest_prompt))
        prompt = generator.integers(3, vocab_size, length).tolist()
        # A part of each prompt repeats itself, so that there is something to guess.
        prompt = prompt[: length // 2] + prompt[: length - length // 2]
        options = SamplingOptions(
            temperature=(0.0, 0.8)[number % 2],
            seed=number,
            max_tokens=int(generator.integers(1, 90)),
            ignore_eos=True,
            logprobs=2,
            frequency_penalty=(0.0, 0.4)[number % 3 == 0],
        )
        found.append((prompt, options))
    return found


def answers_among_others(llm: LLM, requests: list[Request], *, seed: int) -> list[CompletionOutput]:
    """Send requests at random moments, a few at a time, and collect what each gets."""
    engine = llm._open().first.engine
    chance = random.Random(seed)
    waiting = list(enumerate(requests))
    chance.shuffle(waiting)
    events: dict[str, list[TokenEvent]] = {str(number): [] for number in range(len(requests))}
    while waiting or engine.has_work():
        for _ in range(min(len(waiting), chance.choice((0, 0, 0, 1, 2, 5)))):
            number, (prompt, options) = waiting.pop()
            engine.add_request(str(number), prompt, options)
        for event in engine.step():
            events[event.request_id].append(event)
    return [gather_answer(events[str(number)]) for number in range(len(requests))]
