"""Times of steps, asked millions of times: looked up between points of the cost model. Pure.

Decoding is asked by the number of sequences, exactly, and their mean context, as a straight line
from an eighth of an octave on, as far as the model is straight: so the time of many steps in a row
is a sum with a closed form. Steps that compute prompts are asked on a grid of four sizes, with
lines between its points. Points are computed when they are first asked for.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from banyan.planner.costs import StepShape
from banyan.planner.simulation.stage_costs import RoundTime

_STEPS_AN_OCTAVE = 4
_STRAIGHT = 1e-3
_LONGER_BY_OCTAVES = 3
_Key: TypeAlias = tuple[int, int, int, int]
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
    """Times of the steps of a replica, of one that is the only one under way."""

    @property
    def together(self) -> "StepTimes":
        """Times of steps beside others: devices of one host may share its memory or its cores."""
        ...

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
        together: see `StepTimes`; None where devices do not slow each other down.
    """

    def __init__(
        self,
        predict: Callable[[StepShape], RoundTime],
        together: "TabledTimes | None" = None,
    ) -> None:
        self._predict = predict
        self._together = together
        self._lines: dict[tuple[int, int, int], DecodeLine] = {}
        self._points: dict[_Key, float] = {}
        self._busy: dict[_Key, tuple[float, ...]] = {}

    @property
    def together(self) -> "TabledTimes":
        """See `StepTimes`."""
        return self if self._together is None else self._together

    def decode(self, num_sequences: int, cached_tokens: int) -> DecodeLine:
        """See `StepTimes`."""
        context = cached_tokens // num_sequences
        # The highest four bits: pieces of an eighth of an octave, and of one token up to 16.
        shift = max(0, context.bit_length() - 4)
        key = (num_sequences, context >> shift, shift)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = self._draw(*key)
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
        point, both = self._seconds, c * p
        lone_c, lone_p, neither = c - both, p - both, 1.0 - c - p + both
        for a, wa in ((tokens, 1 - t), (tokens + 1, t)):
            for b, wb in ((rows, 1 - r), (rows + 1, r)):
                if wa * wb:
                    seconds += (wa * wb) * (
                        neither * point(a, b, cached, pairs)
                        + lone_p * point(a, b, cached, pairs + 1)
                        + lone_c * point(a, b, cached + 1, pairs)
                        + both * point(a, b, cached + 1, pairs + 1)
                    )
        return RoundTime(seconds, self._busy[tokens, rows, cached, pairs])

    def _draw(self, num_sequences: int, place: int, shift: int) -> DecodeLine:
        low, high = num_sequences * (place << shift), num_sequences * (place + 1 << shift)
        at_low, at_high = self._decoding(num_sequences, low), self._decoding(num_sequences, high)
        slope = (at_high.seconds - at_low.seconds) / (high - low)
        fixed = at_low.seconds - slope * low
        # As far as the line goes on straight it is one: fewer pieces, fewer events.
        for _ in range(_LONGER_BY_OCTAVES):
            further = 2 * high
            exact = self._decoding(num_sequences, further).seconds
            if abs(fixed + slope * further - exact) > _STRAIGHT * exact:
                break
            high = further
        return DecodeLine(fixed, slope, high, at_low.busy)

    def _decoding(self, num_sequences: int, cached_tokens: int) -> RoundTime:
        return self._predict(StepShape(num_sequences, num_sequences, cached_tokens, cached_tokens))

    def _seconds(self, tokens: int, rows: int, cached: int, pairs: int) -> float:
        key = (tokens, rows, cached, pairs)
        found = self._points.get(key)
        return self._ask(key) if found is None else found

    def _ask(self, key: _Key) -> float:
        tokens, rows, cached, pairs = key
        found = self._predict(
            StepShape(
                _TOKEN_POINTS[tokens],
                min(_TOKEN_POINTS[rows], _TOKEN_POINTS[tokens]),
                _SUM_POINTS[cached],
                _SUM_POINTS[pairs],
            )
        )
        self._points[key] = found.seconds
        self._busy[key] = found.busy
        return found.seconds


def _place(points: tuple[float, ...], value: float) -> tuple[int, float]:
    """The point below a value, and how far the value is on the way to the next."""
    index = min(bisect_right(points, value) - 1, len(points) - 2)
    low = points[index]
    return index, (value - low) / (points[index + 1] - low)
