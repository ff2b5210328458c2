"""What two stages cost, from when their steps were begun and finished.

A step takes a straight line in its tokens and in the pairs of tokens that attend to each other, one
line for steps that decode and one for those with prompts. The first stage has a share of it, and
while both stages compute each is slower by a factor: they share the memory of the machine. These
ten numbers are those with which the steps, begun when they were, end when they did.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares  # type: ignore[import-untyped]

from banyan.planner.costs import Part, StepShape
from banyan.planner.inventory import DeviceType
from banyan.planner.model_shape import ModelShape

NAMES = ("fixed", "per_token", "per_pair", "crowding", "first_share")
_GUESSES = {
    "decoding": (4e-3, 1e-4, 3e-7, 1.3, 0.5),
    "prompts": (4e-3, 2.5e-4, 1e-7, 1.1, 0.5),
}
_LONGEST_PAUSE = 3e-3
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NotedStep:
    """A step of the engine: when it was begun and finished, in seconds, and what it computed."""

    began: float
    ended: float
    shape: StepShape


@dataclass(frozen=True, slots=True)
class StageFit:
    """The fitted costs.

    Attributes:
        numbers: "decoding" and "prompts" -> by name: seconds of a step, of each token and each
            pair; how much longer both stages take while both compute; the share of the first one.
        pause: seconds from the end of a step to the beginning of the next: the engine's own.
        error: mean of the absolute errors of the steps' spans, of the span.
    """

    numbers: Mapping[str, Mapping[str, float]]
    pause: float
    error: float

    def cost(self, *, together: bool) -> "FittedStage":
        """Of a stage, while the other computes or while it does not."""
        return FittedStage(self.numbers, together)


@dataclass(frozen=True, slots=True)
class FittedStage:
    """A cost model of either stage: see `StageFit`."""

    numbers: Mapping[str, Mapping[str, float]]
    together: bool

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        """Seconds of one stage."""
        found = self.numbers["decoding" if _decodes(step) else "prompts"]
        seconds = found["fixed"] + found["per_token"] * step.num_tokens
        seconds += found["per_pair"] * step.attended_pairs
        share = found["first_share"] if part.first_layer == 0 else 1 - found["first_share"]
        return seconds * share * (found["crowding"] if self.together else 1.0)

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        """Nothing: memory counts tokens of the cache alone."""
        return 0.0

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        """One byte: memory counts tokens."""
        return 1.0


def fit_stages(steps: Sequence[NotedStep]) -> StageFit:
    """Find the costs of two stages, of which two steps were under way at most."""
    decodes = np.array([_decodes(step.shape) for step in steps])
    tokens = np.array([step.shape.num_tokens for step in steps], np.float64)
    pairs = np.array([step.shape.attended_pairs for step in steps])
    began, ended = [s.began for s in steps], [s.ended for s in steps]
    spans = np.array(ended) - np.array(began)
    start = np.array([*_GUESSES["decoding"], *_GUESSES["prompts"]])

    def errors(found: Floats) -> Floats:
        both = found.reshape(2, 5)
        fixed, per_token, per_pair, crowding, share = np.where(decodes[:, None], both[0], both[1]).T
        seconds = fixed + per_token * tokens + per_pair * pairs
        ends = _ends(began, ended, seconds * share, seconds * (1 - share), crowding)
        # One step in a thousand is disturbed by something else, and by any factor.
        off: Floats = np.clip((ends - np.array(ended)) / spans, -1.0, 1.0)
        return off

    found = least_squares(errors, start, diff_step=1e-3, ftol=1e-4, max_nfev=12, x_scale=start).x
    numbers = {
        kind: dict(zip(NAMES, row, strict=True))
        for kind, row in zip(_GUESSES, found.reshape(2, 5).tolist(), strict=True)
    }
    return StageFit(numbers, _pause(began, ended), float(np.abs(errors(found)).mean()))


def _decodes(step: StepShape) -> bool:
    return step.num_rows >= step.num_tokens


def _pause(began: Sequence[float], ended: Sequence[float]) -> float:
    """The mean time from an end to the next beginning, without times of rest."""
    last, pauses, done = began[0], list[float](), 0
    for begin in began:
        while done < len(ended) and ended[done] <= begin:
            last, done = ended[done], done + 1
        if 0 < begin - last < _LONGEST_PAUSE:
            pauses.append(begin - last)
    return float(np.mean(pauses))


def _ends(
    began: Sequence[float], ended: Sequence[float], first: Floats, second: Floats, crowding: Floats
) -> Floats:
    """When steps that begin when they did are through both stages.

    What is really over when another begins is in nobody's way then.
    """
    way = _Way(first.tolist(), second.tolist(), crowding.tolist())
    for number, (begin, _) in enumerate(zip(began, ended, strict=True)):
        way.go_on(begin)
        while way.under_way and ended[way.under_way[0]] <= begin:
            way.give_up_oldest()
        way.under_way.append(number)
    way.go_on(np.inf)
    return np.array(way.ends)


class _Way:
    """Two stages, and at most two steps that pass through them.

    Attributes:
        under_way: numbers of steps, the oldest first.
        ends: when each was, or would have been, through.
    """

    def __init__(
        self, first: Sequence[float], second: Sequence[float], crowding: Sequence[float]
    ) -> None:
        self.under_way: deque[int] = deque()
        self.ends = [0.0] * len(first)
        self._first, self._second, self._crowding = first, second, crowding
        self._now = 0.0
        # Shares of a step that are left of both stages; of the first none is left later on.
        self._left_first = [1.0] * len(first)
        self._left_second = [1.0] * len(first)

    def go_on(self, until: float) -> None:
        """Let the time go on."""
        while self.under_way and self._now < until:
            step = self.under_way[0]
            if self._left_first[step]:
                self._now += self._compute_first(step, 1.0, until - self._now)
                continue
            follower = self.under_way[1] if len(self.under_way) > 1 else None
            if follower is None or not self._left_first[follower]:
                self._compute_second(step, 1.0, until - self._now)
                continue
            factor, other_factor = self._crowding[step], self._crowding[follower]
            rest = self._second[step] * factor * self._left_second[step]
            passed = self._compute_first(follower, other_factor, min(rest, until - self._now))
            self._compute_second(step, factor, passed)
        if until < np.inf:
            self._now = max(self._now, until)

    def give_up_oldest(self) -> None:
        """It would have needed what is left of it."""
        step = self.under_way.popleft()
        rest = self._first[step] * self._left_first[step]
        self.ends[step] = self._now + rest + self._second[step] * self._left_second[step]

    def _compute_first(self, step: int, factor: float, most: float) -> float:
        """Compute the first stage for so many seconds at most; returns how many it took."""
        pace = self._first[step] * factor
        rest = pace * self._left_first[step]
        self._left_first[step] = 0.0 if rest <= most else (rest - most) / pace
        return min(rest, most)

    def _compute_second(self, step: int, factor: float, most: float) -> None:
        """Compute the second stage; at its end the step is through."""
        pace = self._second[step] * factor
        rest = pace * self._left_second[step]
        self._now += min(rest, most)
        if rest <= most:
            self.ends[step] = self._now
            self.under_way.popleft()
        else:
            self._left_second[step] = (rest - most) / pace
