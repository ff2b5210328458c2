"""How fast a pipeline runs: micro-batches in turn through stages. Pure.

With G micro-batches of b sequences, all stages are passed once in max(G x slowest stage, sum of all
stages and hops): either the slowest stage is always busy, or the micro-batches wait for nobody.
That time is the time per output token, and G x b tokens come out of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil, floor

MOST_SEQUENCES = 4096


def batch_sizes(most: int = MOST_SEQUENCES) -> tuple[int, ...]:
    """Sizes of a micro-batch that are tried: each up to 8, then a sixth more each time."""
    sizes, size = [], 1
    while size <= most:
        sizes.append(size)
        size = size + 1 if size < 8 else ceil(size * 7 / 6)
    return tuple(sizes)


@dataclass(frozen=True, slots=True)
class Pass:
    """One micro-batch once through a pipeline.

    Attributes:
        slowest: seconds of the stage, or link, that is busy longest.
        latency: seconds of all stages and hops one after the other.
    """

    slowest: float
    latency: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How a pipeline runs best.

    Attributes:
        batch: sequences of a micro-batch.
        micro_batches: how many are under way.
        tokens_per_second: of answers.
        seconds: time per output token.
    """

    batch: int
    micro_batches: int
    tokens_per_second: float
    seconds: float

    @property
    def num_sequences(self) -> int:
        """Sequences under way."""
        return self.batch * self.micro_batches


def best_pace(
    batches: Iterable[int],
    pass_of: Callable[[int], Pass],
    most_sequences: int,
    num_stages: int,
    goal: float | None,
) -> Pace | None:
    """Choose the sizes with which most tokens come out.

    Args:
        batches: sizes of a micro-batch to try.
        pass_of: what one of that size takes.
        most_sequences: that memory has room for.
        num_stages: each gets a micro-batch of its own, where there is room for so many.
        goal: most seconds per output token; None: no limit.

    Returns:
        None where not even one sequence has room or keeps to the goal.
    """
    best: Pace | None = None
    fitting = {batch for batch in batches if batch <= most_sequences}
    for batch in sorted({*fitting, max(1, min(most_sequences // num_stages, MOST_SEQUENCES))}):
        if batch > most_sequences:
            break
        pace = pace_of(batch, pass_of(batch), most_sequences // batch, num_stages, goal)
        if pace and (best is None or pace.tokens_per_second > best.tokens_per_second):
            best = pace
    return best


def pace_of(batch: int, taken: Pass, room: int, num_stages: int, goal: float | None) -> Pace | None:
    """Choose how many micro-batches of one size are under way, `room` at most."""
    if goal is not None and taken.latency > goal:
        return None
    wanted = max(num_stages, ceil(taken.latency / taken.slowest - 1e-9))
    if goal is not None:
        wanted = min(wanted, max(1, floor(goal / taken.slowest + 1e-9)))
    count = max(1, min(wanted, room))
    seconds = max(count * taken.slowest, taken.latency)
    return Pace(batch, count, count * batch / seconds, seconds)
