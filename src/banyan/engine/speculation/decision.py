"""How many guesses are worth checking. Pure: measured numbers in, counts out.

Checking a guess makes the step longer, and pays with the probability that it and all guesses
before it are right. So guesses are taken in order of that probability as long as each raises the
tokens per second of the step: the greedy choice, which is the best one when time grows linearly
with the tokens of a step.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

# Before anything is measured: what a step takes, and what one token more adds to it. Only their
# ratio matters; it is that of a model whose weights come from memory.
_FIRST_STEP_SECONDS = 1.0
_FIRST_TOKEN_SECONDS = 0.06
# Steps that the measurement remembers, more or less.
_MEMORY = 64.0
# A step that took so much longer than the mean was disturbed by something else; believed once there
# are enough to take the mean of.
_OUTLIER = 4.0
_ENOUGH = 8.0
# However many guesses were right, some ten wrong ones outweigh them.
_MOST_RIGHT = 9.0


@dataclass(frozen=True, slots=True)
class StepCost:
    """A step of `n` tokens takes `step + n * token` seconds."""

    step_seconds: float = _FIRST_STEP_SECONDS
    token_seconds: float = _FIRST_TOKEN_SECONDS

    def of(self, num_tokens: int) -> float:
        """Seconds that a step of so many tokens takes."""
        return self.step_seconds + num_tokens * self.token_seconds


class CostMeter:
    """Learns `StepCost` from steps as they happen: a line through the recent ones.

    Sums of weights, tokens n and seconds t fade, so the line follows what the model does now.
    """

    def __init__(self) -> None:
        self._weight = self._n = self._t = self._nn = self._nt = 0.0
        self._longest_seconds = math.inf

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Note a step that only checked guesses and decoded."""
        seconds = min(seconds, self._longest_seconds)
        fade = 1.0 - 1.0 / _MEMORY
        self._weight = self._weight * fade + 1.0
        self._n = self._n * fade + num_tokens
        self._t = self._t * fade + seconds
        self._nn = self._nn * fade + num_tokens * num_tokens
        self._nt = self._nt * fade + num_tokens * seconds
        if self._weight > _ENOUGH:
            self._longest_seconds = _OUTLIER * self._t / self._weight

    def cost(self) -> StepCost:
        """What is known now."""
        if self._weight == 0.0:
            return StepCost()
        mean_n, mean_t = self._n / self._weight, self._t / self._weight
        spread = self._nn / self._weight - mean_n * mean_n
        # A prior of one token squared: while all steps are alike the ratio stays the old one.
        prior = mean_t * _FIRST_TOKEN_SECONDS / (_FIRST_STEP_SECONDS + _FIRST_TOKEN_SECONDS)
        together = self._nt / self._weight - mean_n * mean_t
        slope = (together + prior * 0.25) / (spread + 0.25)
        # Neither the token nor the step itself is free, whatever the noise says.
        slope = min(max(slope, 0.002 * mean_t), 0.9 * mean_t / mean_n)
        return StepCost(mean_t - slope * mean_n, slope)


@dataclass(frozen=True, slots=True)
class Prospect:
    """Guesses for one sequence.

    Attributes:
        available: how many there are.
        acceptance: probability that a guess is right when all before it are, 0 to 1.
    """

    available: int
    acceptance: float


def choose_counts(prospects: Sequence[Prospect], cost: StepCost) -> list[int]:
    """How many guesses of each decoding sequence to check in a step that decodes them all."""
    counts = [0] * len(prospects)
    if not any(prospect.available for prospect in prospects):
        return counts
    num_tokens = len(prospects)
    expected = float(num_tokens)
    # Likeliest next guess first.
    heap = [(-p.acceptance, place) for place, p in enumerate(prospects) if p.available]
    heapq.heapify(heap)
    while heap:
        chance, place = -heap[0][0], heap[0][1]
        if (expected + chance) * cost.of(num_tokens) <= expected * cost.of(num_tokens + 1):
            break
        counts[place] += 1
        num_tokens += 1
        expected += chance
        if counts[place] < prospects[place].available:
            heapq.heapreplace(heap, (-chance * prospects[place].acceptance, place))
        else:
            heapq.heappop(heap)
    return counts


class Acceptance:
    """How often the guesses for one sequence are right, the recent ones above all.

    Starts from a belief, which a few guesses outweigh.
    """

    __slots__ = ("_right", "_wrong")

    def __init__(self, belief: float) -> None:
        self._right, self._wrong = belief, 1.0 - belief

    @property
    def rate(self) -> float:
        """Probability that a guess is right when all before it are."""
        return self._right / (self._right + self._wrong)

    def note(self, num_checked: int, num_right: int) -> None:
        """Note guesses: the first `num_right` were right, the next, if any, was wrong."""
        fade = 0.9
        self._right = min(self._right * fade + num_right, _MOST_RIGHT)
        self._wrong = self._wrong * fade + (num_right < num_checked)
