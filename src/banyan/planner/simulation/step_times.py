"""Times of steps, asked millions of times: looked up between points of the cost model. Pure.

Decoding is asked by the number of sequences, exactly, and their mean context, as a straight line
between powers of two and the middles between them: so the time of many steps in a row is a sum
with a closed form. Steps that compute prompts are asked on a grid of four sizes, with lines between
its points. Points are computed when they are first asked for.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from banyan.planner.costs import StepShape
from banyan.planner.simulation.stage_costs import RoundTime

_STEPS_AN_OCTAVE = 4
_HIGHEST = 2.0**40
_TOKEN_POINTS = tuple(
    sorted({round(2 ** (step / _STEPS_AN_OCTAVE)) for step in range(22 * _STEPS_AN_OCTAVE)})
)
_SUM_POINTS = (
    0.0,
    *(2 ** (step / _STEPS_AN_OCTAVE) for step in range(41 * _STEPS_AN_OCTAVE)),
)


@dataclass(frozen=True, slots=True)
class DecodeLine:
    """Steps that decode: seconds = fixed + slope x tokens that attention reads.

    Attributes:
        end: cached tokens of all sequences at which another line begins.
        busy: share of the time for each part of the replica.
    """

    fixed: float
    slope: float
    end: float
    busy: tuple[float, ...] = ()


class StepTimes(Protocol):
    """Times of the steps of a replica."""

    def decode(self, num_sequences: int, cached_tokens: int) -> DecodeLine:
        """The line for steps that decode, from `cached_tokens` of all sequences on."""
        ...

    def step(
        self, num_tokens: int, num_rows: int, cached_tokens: int, attended_pairs: int
    ) -> RoundTime:
        """A step of any kind."""
        ...


class TabledTimes:
    """`StepTimes` of whatever predicts rounds.

    Args:
        predict: the time of one round.
    """

    def __init__(self, predict: Callable[[StepShape], RoundTime]) -> None:
        self._predict = predict
        self._lines: dict[tuple[int, int, int], DecodeLine] = {}
        self._points: dict[tuple[int, int, int, int], RoundTime] = {}

    def decode(self, num_sequences: int, cached_tokens: int) -> DecodeLine:
        """See `StepTimes`."""
        context = cached_tokens // num_sequences
        octave = context.bit_length()
        # 0 and 1 in the lower half of an octave and the upper one; below 2 there is no middle.
        half = context >> (octave - 2) & 1 if octave > 1 else 0
        line = self._lines.get((num_sequences, octave, half))
        if line is None:
            line = self._draw(num_sequences, octave, half)
            self._lines[num_sequences, octave, half] = line
        return line

    def step(
        self, num_tokens: int, num_rows: int, cached_tokens: int, attended_pairs: int
    ) -> RoundTime:
        """See `StepTimes`."""
        tokens, t = _place(_TOKEN_POINTS, num_tokens)
        rows, r = _place(_TOKEN_POINTS, max(1, num_rows))
        cached, c = _place(_SUM_POINTS, cached_tokens)
        pairs, p = _place(_SUM_POINTS, attended_pairs)
        seconds = 0.0
        for a, wa in ((tokens, 1 - t), (tokens + 1, t)):
            for b, wb in ((rows, 1 - r), (rows + 1, r)):
                if wa * wb == 0.0:
                    continue
                base = wa * wb
                seconds += base * (
                    (1 - c) * (1 - p) * self._point(a, b, cached, pairs).seconds
                    + (1 - c) * p * self._point(a, b, cached, pairs + 1).seconds
                    + c * (1 - p) * self._point(a, b, cached + 1, pairs).seconds
                    + c * p * self._point(a, b, cached + 1, pairs + 1).seconds
                )
        return RoundTime(seconds, self._point(tokens, rows, cached, pairs).busy)

    def _draw(self, num_sequences: int, octave: int, half: int) -> DecodeLine:
        if octave > 1:
            middle = 2 ** (octave - 2)
            low, high = num_sequences * middle * (2 + half), num_sequences * middle * (3 + half)
        else:
            low, high = num_sequences * octave, num_sequences * (octave + 1)
        at_low, at_high = self._decoding(num_sequences, low), self._decoding(num_sequences, high)
        slope = (at_high.seconds - at_low.seconds) / (high - low)
        return DecodeLine(at_low.seconds - slope * low, slope, high, at_low.busy)

    def _decoding(self, num_sequences: int, cached_tokens: int) -> RoundTime:
        return self._predict(StepShape(num_sequences, num_sequences, cached_tokens, cached_tokens))

    def _point(self, tokens: int, rows: int, cached: int, pairs: int) -> RoundTime:
        key = (tokens, rows, cached, pairs)
        found = self._points.get(key)
        if found is None:
            found = self._predict(
                StepShape(
                    _TOKEN_POINTS[tokens],
                    min(_TOKEN_POINTS[rows], _TOKEN_POINTS[tokens]),
                    _SUM_POINTS[cached],
                    _SUM_POINTS[pairs],
                )
            )
            self._points[key] = found
        return found


def _place(points: tuple[float, ...], value: float) -> tuple[int, float]:
    """The point below a value, and how far the value is on the way to the next."""
    index = min(bisect_right(points, value) - 1, len(points) - 2)
    low = points[index]
    return index, (value - low) / (points[index + 1] - low)
