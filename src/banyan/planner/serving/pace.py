"""How fast a pipeline runs: micro-batches in turn through stages. Pure.

With G micro-batches of b sequences, all stages are passed once in max(G x slowest stage, sum of all
stages and hops): either the slowest stage is always busy, or the micro-batches wait for nobody.
That time is the time per output token, and G x b tokens come out of it.

A pass that takes a chunk of a prompt along is longer in every stage, and none overtakes it. With n
such passes in a round the others queue behind them: a round then takes (n x long pass + G x slowest
stage without chunks) / (n + 1), or more: follow a long pass through all stages, then
its last stage through G / n micro-batches until the next long one: that is 1 + 1 / n rounds, and
nothing of it can be done sooner.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor

MOST_SEQUENCES = 4096
ROUNDING = 1e-9


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
        slowest_plain: seconds of the slowest stage where no prompt is taken along.
        long_latency: seconds of a pass that takes a chunk of a prompt along.
        long_share: share of such passes, 0 to 1.
    """

    slowest: float
    latency: float
    slowest_plain: float = 0.0
    long_latency: float = 0.0
    long_share: float = 0.0

    def round_seconds(self, count: int) -> float:
        """Seconds until `count` micro-batches have passed all stages once."""
        num_long = count * self.long_share
        queued = (num_long * self.long_latency + count * self.slowest_plain) / (num_long + 1)
        return max(count * self.slowest, self.latency, queued)

    def most_within(self, seconds: float) -> int:
        """Most micro-batches with which a round takes no longer; 0 where not even one does."""
        if self.round_seconds(1) > seconds:
            return 0
        most = seconds / self.slowest
        more = self.long_share * (self.long_latency - seconds) + self.slowest_plain
        if more > 0:
            most = min(most, seconds / more)
        return max(1, floor(most + ROUNDING))


@dataclass(frozen=True, slots=True)
class StagePass:
    """One micro-batch in one stage.

    Attributes:
        busiest: seconds of what is busy longest in it, on average over all passes.
        latency: seconds from in to out, on average.
        long: seconds from in to out of a pass that takes a chunk of a prompt along.
    """

    busiest: float
    latency: float
    long: float


def pipeline_pass(
    stages: Sequence[StagePass], hops: float, long_hops: float, long_share: float
) -> Pass:
    """Put stages behind each other; `hops` are the seconds between all of them."""
    rest = max(1.0 - long_share, ROUNDING)
    plain = (
        each.busiest if long_share >= 1 else max(0.0, each.busiest - long_share * each.long) / rest
        for each in stages
    )
    return Pass(
        max(each.busiest for each in stages),
        sum(each.latency for each in stages) + hops,
        max(plain),
        sum(each.long for each in stages) + long_hops,
        long_share,
    )


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
    wanted = max(num_stages, ceil(taken.latency / taken.slowest - ROUNDING))
    if goal is not None:
        wanted = min(wanted, taken.most_within(goal))
    if not wanted:
        return None
    count = max(1, min(wanted, room))
    seconds = taken.round_seconds(count)
    return Pace(batch, count, count * batch / seconds, seconds)
