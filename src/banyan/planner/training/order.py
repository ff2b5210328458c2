"""How long a pipeline takes for its micro-batches, pass by pass. Pure.

A stage is a device that does one pass at a time, in the order its schedule says; a pass waits for
the neighbour's pass of the same micro-batch and the hop between them. Sends overlap with passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from banyan.planner.training.job import Order


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds of one micro-batch on one stage, and of the hop to the next one; 0 at the last."""

    forward: float
    backward: float
    hop: float = 0.0

    @property
    def busy(self) -> float:
        """Both passes."""
        return self.forward + self.backward


def num_in_flight(stage: int, num_stages: int, num_micro_batches: int, order: Order) -> int:
    """Micro-batches whose activations a stage holds at its fullest."""
    if order == "gpipe":
        return num_micro_batches
    return min(num_micro_batches, num_stages - stage)


def estimated_seconds(stages: Sequence[StageTimes], num_micro_batches: int) -> float:
    """Closed form: the slowest stage for all micro-batches, every stage and hop once.

    Exact for equal stages without hops; a lower bound otherwise.
    """
    slowest = max(stage.busy for stage in stages)
    through = sum(stage.busy + 2 * stage.hop for stage in stages)
    return (num_micro_batches - 1) * slowest + through


def pipeline_seconds(stages: Sequence[StageTimes], num_micro_batches: int, order: Order) -> float:
    """Seconds from the first forward pass to the last backward pass.

    Many micro-batches are computed for two lengths and continued along the line between them: a
    pipeline that is full repeats itself.
    """
    full = 6 * len(stages) + 8
    if num_micro_batches <= 2 * full:
        return _played(stages, num_micro_batches, order)
    one, other = _played(stages, full, order), _played(stages, 2 * full, order)
    return other + (num_micro_batches - 2 * full) * (other - one) / full


def passes(stage: int, num_stages: int, num_micro_batches: int, order: Order) -> list[bool]:
    """The passes of a stage in order: True for forward. Micro-batches come in their own order."""
    if order == "gpipe":
        return [True] * num_micro_batches + [False] * num_micro_batches
    ahead = min(num_micro_batches, num_stages - stage - 1)
    both = [True, False] * (num_micro_batches - ahead)
    return [True] * ahead + both + [False] * ahead


def _played(stages: Sequence[StageTimes], num_micro_batches: int, order: Order) -> float:
    count = len(stages)
    todo = [passes(number, count, num_micro_batches, order) for number in range(count)]
    # When the passes of each stage ended; a list grows as they are done.
    forward: list[list[float]] = [[] for _ in stages]
    backward: list[list[float]] = [[] for _ in stages]
    clock, place = [0.0] * count, [0] * count
    waiting = set(range(count))
    while waiting:
        number = waiting.pop()
        while place[number] < len(todo[number]):
            is_forward = todo[number][place[number]]
            ready = _ready(stages, forward, backward, number, is_forward)
            if ready is None:
                break
            took = stages[number].forward if is_forward else stages[number].backward
            clock[number] = max(clock[number], ready) + took
            (forward if is_forward else backward)[number].append(clock[number])
            place[number] += 1
            waiting.update({number + 1} if is_forward else {number - 1})
        waiting &= set(range(count))
    return max(clock)


def _ready(
    stages: Sequence[StageTimes],
    forward: Sequence[Sequence[float]],
    backward: Sequence[Sequence[float]],
    number: int,
    is_forward: bool,
) -> float | None:
    """When the input of the next pass is there; None where the neighbour has not done it yet."""
    if is_forward:
        micro = len(forward[number])
        if number == 0:
            return 0.0
        before = forward[number - 1]
        return before[micro] + stages[number - 1].hop if micro < len(before) else None
    micro = len(backward[number])
    if number == len(stages) - 1:
        return forward[number][micro] if micro < len(forward[number]) else None
    behind = backward[number + 1]
    return behind[micro] + stages[number].hop if micro < len(behind) else None
