"""How long a step takes: learned from the steps that were run, asked before the next one. Pure.

seconds = fixed + per_token * tokens + per_pair * pairs, where a pair is one token looking at one
token of its context: linear layers grow with tokens, attention with pairs. Least squares on
relative errors, older steps counting less. A CPU reads its weights once however few tokens there
are, so time is flat up to some number of tokens and bends there; what the straight line misses is
learned as one factor for each power of two of tokens. No clock is read here.

Three unknowns are solved for after every few steps, and plain numbers take a tenth of the time of
arrays: this is done beside every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_FEWEST_STEPS = 4
_FORGET = 0.98
_FACTOR_LEARNS = 0.2
# A step that took this much longer than expected was disturbed (another process, a page fault).
_LARGEST_SURPRISE = 3.0
_STEPS_UNTIL_TRUSTED = 16
# One step among the fifty that count changes little.
_STEPS_UNTIL_SOLVED = 8
_PAIRS_UNIT = 1e3
_Triple = tuple[float, float, float]
# Where the product of two features is kept.
_PLACES = ((0, 1, 2), (1, 3, 4), (2, 4, 5))


@dataclass(frozen=True, slots=True)
class StepWork:
    """What a step computes.

    Attributes:
        num_tokens: tokens it computes.
        num_pairs: summed over them, the tokens each looks at.
    """

    num_tokens: int
    num_pairs: int

    def __add__(self, other: "StepWork") -> "StepWork":
        return StepWork(self.num_tokens + other.num_tokens, self.num_pairs + other.num_pairs)


def work_of(start: int, num_tokens: int) -> StepWork:
    """The work of `num_tokens` tokens of one sequence behind `start` others."""
    return StepWork(num_tokens, num_tokens * start + num_tokens * (num_tokens + 1) // 2)


class StepCost:
    """Learns the seconds of steps on one model and machine."""

    def __init__(self) -> None:
        self._num_steps = 0
        # Normal equations of the weighted least squares: the products of 3 features in the order
        # of `_PLACES`, then the targets.
        self._moments = [0.0] * 9
        self._coefficients: list[float] | None = None
        self._factors: dict[int, float] = {}

    @property
    def is_known(self) -> bool:
        """True when enough steps were seen to predict others."""
        return self._num_steps >= _FEWEST_STEPS

    def observe(self, work: StepWork, seconds: float) -> None:
        """Learn from a step that took `seconds`, more than 0."""
        if self._num_steps >= _STEPS_UNTIL_TRUSTED:
            seconds = min(seconds, _LARGEST_SURPRISE * self.seconds(work))
        one, tokens, pairs = (feature / seconds for feature in _features(work))
        new = (one * one, one * tokens, one * pairs, tokens * tokens, tokens * pairs, pairs * pairs)
        before = self._moments
        self._moments = [
            _FORGET * old + added
            for old, added in zip(before, (*new, one, tokens, pairs), strict=True)
        ]
        self._num_steps += 1
        if self._num_steps <= _STEPS_UNTIL_TRUSTED or self._num_steps % _STEPS_UNTIL_SOLVED == 0:
            self._coefficients = None
        if self.is_known:
            kind = work.num_tokens.bit_length()
            ratio = seconds / self._straight(work)
            factor = self._factors.get(kind, 1.0)
            self._factors[kind] = factor + _FACTOR_LEARNS * (ratio - factor)

    def seconds(self, work: StepWork) -> float:
        """Predict a step; 0 while nothing is known."""
        if not self.is_known or work.num_tokens == 0:
            return 0.0
        return self._straight(work) * self._factors.get(work.num_tokens.bit_length(), 1.0)

    def marginal_seconds(self, work: StepWork) -> float:
        """Predict what `work` adds to steps that run anyway; 0 while nothing is known."""
        if not self.is_known:
            return 0.0
        _, tokens, pairs = _features(work)
        return _dot(self._solved(), (0.0, tokens, pairs))

    def most_tokens(
        self, goal_seconds: float, *, running: StepWork, context: int, least: int, most: int
    ) -> int:
        """The most prompt tokens, from `least` to `most`, that keep a step within a goal.

        Args:
            goal_seconds: how long the step may take.
            running: what it computes anyway.
            context: tokens that the first of the prompt tokens looks at.
            least: taken even when the goal is missed, so that prompts go on.
            most: never more; all of it while nothing is known.
        """
        if not self.is_known:
            return most
        low, high = least, most
        while low < high:
            middle = (low + high + 1) // 2
            if self.seconds(running + work_of(context, middle)) <= goal_seconds:
                low = middle
            else:
                high = middle - 1
        return low

    def _straight(self, work: StepWork) -> float:
        return max(_dot(self._solved(), _features(work)), 1e-9)

    def _solved(self) -> list[float]:
        """Coefficients, none negative: a term that would be is left out."""
        if self._coefficients is None:
            products = [[self._moments[place] for place in row] for row in _PLACES]
            kept = [0, 1, 2]
            while True:
                coefficients = [0.0] * 3
                found = _solve(products, self._moments[6:], kept)
                for place, coefficient in zip(kept, found, strict=True):
                    coefficients[place] = coefficient
                negative = [place for place in kept if coefficients[place] < 0]
                if not negative:
                    break
                kept.remove(min(negative, key=coefficients.__getitem__))
            self._coefficients = coefficients
        return self._coefficients


def _features(work: StepWork) -> _Triple:
    return 1.0, float(work.num_tokens), work.num_pairs / _PAIRS_UNIT


def _dot(coefficients: Sequence[float], features: _Triple) -> float:
    return sum(a * b for a, b in zip(coefficients, features, strict=True))


def _solve(
    products: Sequence[Sequence[float]], targets: Sequence[float], kept: Sequence[int]
) -> list[float]:
    """The unknowns `kept` of symmetric equations, by elimination."""
    rows = [[*(products[i][j] for j in kept), targets[i]] for i in kept]
    size = len(rows)
    for i, row in enumerate(rows):
        # Steps that are all alike cannot tell the terms apart; a little weight on none settles it.
        row[i] += row[i] * 1e-6 + 1e-12
    for i, pivot in enumerate(rows):
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            for j in range(i, size + 1):
                row[j] -= factor * pivot[j]
    found = [0.0] * size
    for i in reversed(range(size)):
        rest = sum(rows[i][j] * found[j] for j in range(i + 1, size))
        found[i] = (rows[i][size] - rest) / rows[i][i]
    return found
