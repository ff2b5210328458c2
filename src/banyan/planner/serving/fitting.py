"""Pipelines that the devices are really enough for: small integer programs. Pure.

The knapsack counts groups of each kind alone. Where devices are few, one cut in fours and one in
twos may want the same cards; here all limits hold at once. For each way to run, the highest rate
that still fits is found by bisection.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from banyan.planner.linear_program import maximise

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

FEW_DEVICES = 64


def fitting_covers(
    cases: Sequence[Sequence[tuple[int, tuple[Integers, ...], int]]],
    uses_KR: Integers,
    limits_R: Integers,
    group_limits_K: Integers,
    price_K: Array,
    num_layers: int,
    most_programs: int,
) -> dict[int, tuple[Integers, ...]]:
    """Search each way to run for the highest rate that fits.

    Args:
        cases: for each way to run, the most promising first: (case, layers_K of each pass, most
            groups in a row), by rising rate.
        uses_KR: devices of each sort that a group takes.
        limits_R: devices there are.
        group_limits_K: groups there can be.
        price_K: of one group; the cheapest cover of a case is taken.
        num_layers: to be covered.
        most_programs: integer programs that are solved.

    Returns:
        case -> counts_K of each pass, for all cases that were tried and fit.
    """
    found: dict[int, tuple[Integers, ...]] = {}
    programs = 0
    for way in cases:
        low, high = -1, len(way)
        while high - low > 1 and programs < most_programs:
            # The highest rate first: what cannot fit at all is not asked for. Then the lowest:
            # where that does not fit, none does.
            middle = high - 1 if high == len(way) else 0 if low < 0 < high else (low + high) // 2
            case, layers, most = way[middle]
            counts = _cover(layers, most, uses_KR, limits_R, group_limits_K, price_K, num_layers)
            programs += 1
            if counts is None:
                high = middle
            else:
                low, found[case] = middle, counts
    return found


def plausible(layers_NK: Integers, uses_KR: Integers, limits_R: Integers) -> Array:
    """Most layers that all devices could hold, groups cut anywhere; no cover holds more (N)."""
    first_K = uses_KR.argmax(axis=1)
    each_NK = layers_NK / uses_KR[np.arange(len(uses_KR)), first_K]
    most = np.zeros(len(layers_NK))
    for resource, limit in enumerate(limits_R):
        here = first_K == resource
        if here.any():
            most += limit * each_NK[:, here].max(axis=1)
    return most


def _cover(
    layers: tuple[Integers, ...],
    most: int,
    uses_KR: Integers,
    limits_R: Integers,
    group_limits_K: Integers,
    price_K: Array,
    num_layers: int,
) -> tuple[Integers, ...] | None:
    passes, kinds = len(layers), len(price_K)
    for each in layers:
        if int((each * group_limits_K).sum()) < num_layers:
            return None
    usage = np.concatenate([uses_KR, np.eye(kinds)], axis=1)
    rows = [np.concatenate([usage] * passes, axis=0)]
    for index, each in enumerate(layers):
        covered = np.zeros((passes * kinds, 2))
        part = slice(index * kinds, (index + 1) * kinds)
        covered[part, 0], covered[part, 1] = each, 1.0
        rows.append(covered)
    own = np.concatenate([limits_R, group_limits_K]).astype(float)
    bounds = np.concatenate([own, *([np.inf, float(most)] for _ in layers)])
    floors = np.concatenate(
        [np.full(len(own), -np.inf), *([float(num_layers), -np.inf] for _ in layers)]
    )
    # A group that holds nothing would only cost.
    prices = np.concatenate([np.where(each > 0, price_K, price_K + 1.0) for each in layers])
    answer = maximise(
        -np.maximum(prices, 1e-9),
        np.concatenate(rows, axis=1),
        bounds,
        floors=floors,
        integer=True,
        most_nodes=20,
    )
    if answer is None:
        return None
    counts = answer.amounts.astype(np.int64).reshape(passes, kinds)
    return tuple(counts)
