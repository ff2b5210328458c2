"""Between measured points: straight lines in the logarithms of all coordinates and of the value.

Rates of chips are products of powers over wide ranges, and such lines follow powers exactly.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import exp, log
from typing import TypeAlias

from banyan.foundation.errors import InputError

Point: TypeAlias = tuple[tuple[float, ...], float]
"""Coordinates and the value there, all above 0."""


def interpolated(points: Iterable[Point], at: Sequence[float]) -> float:
    """The value at a place, one coordinate after the other.

    Points need not be a grid: for the first coordinate the two nearest groups of points around the
    place are asked for their value at the rest of it. Beyond the outermost the value stays.

    Raises:
        InputError: there is no point.
    """
    ordered = sorted(points)
    if not ordered:
        raise InputError("there is no measured point to interpolate between; measure the device")
    return exp(_value(ordered, at, 0))


def _value(points: Sequence[Point], at: Sequence[float], axis: int) -> float:
    """The logarithm of the value; `points` are sorted and equal in the axes before."""
    if axis == len(at):
        return log(points[0][1])
    groups = [(key, list(group)) for key, group in groupby(points, lambda p: p[0][axis])]
    below = [group for group in groups if group[0] <= at[axis]]
    above = [group for group in groups if group[0] >= at[axis]]
    low, high = (below or above)[-1 if below else 0], (above or below)[0 if above else -1]
    value = _value(low[1], at, axis + 1)
    if low[0] == high[0]:
        return value
    share = log(at[axis] / low[0]) / log(high[0] / low[0])
    return value + share * (_value(high[1], at, axis + 1) - value)
