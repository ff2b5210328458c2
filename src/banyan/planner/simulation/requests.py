"""What an engine may hold, and what is known of every request of a simulation."""

import math
from array import array
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """The limits of an engine.

    Attributes:
        num_blocks: of its KV cache, of 16 tokens each.
        token_budget: most tokens of a step, at least `max_running`.
        max_running: most sequences that run.
        num_in_flight: steps under way at once; they share the token budget.
    """

    num_blocks: int
    token_budget: int = 1024
    max_running: int = 64
    num_in_flight: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """What is known of all requests, one place for each.

    Attributes:
        prompt: tokens.
        answer: tokens that are wanted.
        written: tokens of the answer at the last time it began to run, or gave way.
        cached: tokens that are in the cache of the engine already when it is admitted.
        first_token: when it came; NaN before.
        finished: when the last token came; NaN before.
        preempted: how often it had to give way.
    """

    prompt: "array[int]"
    answer: "array[int]"
    written: "array[int]"
    cached: "array[int]"
    first_token: "array[float]"
    finished: "array[float]"
    preempted: "array[int]"

    @staticmethod
    def of(prompt: "array[int]", answer: "array[int]") -> "Requests":
        """None of which has begun."""
        count = len(prompt)
        nothing, unknown = array("i", bytes(4 * count)), array("d", [math.nan]) * count
        return Requests(
            prompt,
            answer,
            nothing[:],
            nothing[:],
            unknown[:],
            unknown[:],
            nothing[:],
        )
