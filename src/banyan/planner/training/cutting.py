"""Cuts layers into stages of uneven devices: the best cut for a given order of devices. Pure.

For one limit on the time of a stage, a dynamic program over (stage, layer) finds the cut with the
shortest way through. Only times that some stage can have matter as limits, so trying them all, from
the least that can be kept, minimises the closed form of `order.estimated_seconds` exactly.
"""

from collections.abc import Sequence

import numpy as np

from banyan.planner.training.job import Order
from banyan.planner.training.layer_costs import LayerCosts, Numbers
from banyan.planner.training.order import num_in_flight

MOST_LIMITS = 48
"""Limits tried above the least; beyond that they are taken at even distances."""


def cut_layers(
    stages: Sequence[LayerCosts], num_micro_batches: int, order: Order
) -> tuple[int, ...] | None:
    """Find where each stage ends.

    Args:
        stages: what the layers cost the device of each stage, in the order of the pipeline.
        num_micro_batches: of a step; decides between a short way through and an even load.
        order: of the passes; decides how much memory a stage needs.

    Returns:
        The end of each stage, the last of them the number of layers; None where no cut fits.
    """
    if stages[0].num_layers < len(stages):
        return None
    tables = [
        _table(costs, num_in_flight(number, len(stages), num_micro_batches, order))
        for number, costs in enumerate(stages)
    ]
    times = np.unique(np.concatenate([table[np.isfinite(table)] for table in tables]))
    least = _least_limit(tables, times)
    if least is None:
        return None
    best: tuple[float, tuple[int, ...]] | None = None
    shortest = _through(tables, np.inf)
    assert shortest is not None  # a limit was kept, so no limit is, too
    for limit in _spread(times[times >= least]):
        if best is not None and (num_micro_batches - 1) * limit + shortest[0] >= best[0]:
            break
        found = _through(tables, limit)
        if found is None:
            continue
        seconds = (num_micro_batches - 1) * float(limit) + found[0]
        if best is None or seconds < best[0]:
            best = (seconds, found[1])
    return None if best is None else best[1]


def fits(stages: Sequence[LayerCosts], ends: Sequence[int], held: Sequence[int]) -> bool:
    """Tell whether every stage has the memory for its layers with `held` micro-batches."""
    firsts = (0, *ends[:-1])
    return all(
        costs.bytes_held(first, end, count) <= costs.memory_bytes
        for costs, first, end, count in zip(stages, firsts, ends, held, strict=True)
    )


def _table(costs: LayerCosts, held: int) -> Numbers:
    """Seconds of layers i to j at [i, j]; infinite where there are none or they do not fit."""
    busy_I = costs.forward + costs.backward
    memory_I = costs.state + held * costs.kept
    busy_II = busy_I[None, :] - busy_I[:, None]
    memory_II = memory_I[None, :] - memory_I[:, None]
    allowed = np.triu(np.ones_like(busy_II, dtype=bool), 1) & (memory_II <= costs.memory_bytes)
    return np.where(allowed, busy_II, np.inf)


def _through(tables: Sequence[Numbers], limit: float) -> tuple[float, tuple[int, ...]] | None:
    """The cut with the least sum of stage times, none above the limit."""
    num_layers = len(tables[0]) - 1
    sums = np.full(num_layers + 1, np.inf)
    sums[0] = 0.0
    chosen = []
    for table in tables:
        # A little above the limit, since sums of floats are compared.
        through_II = sums[:, None] + np.where(table <= limit * (1 + 1e-12), table, np.inf)
        from_I = through_II.argmin(axis=0)
        sums = through_II[from_I, np.arange(num_layers + 1)]
        chosen.append(from_I)
    if not np.isfinite(sums[num_layers]):
        return None
    ends = [num_layers]
    for from_I in reversed(chosen[1:]):
        ends.append(int(from_I[ends[-1]]))
    return float(sums[num_layers]), tuple(reversed(ends))


def _least_limit(tables: Sequence[Numbers], times: Numbers) -> float | None:
    low, high = 0, len(times) - 1
    if high < 0 or _through(tables, float(times[high])) is None:
        return None
    while low < high:
        middle = (low + high) // 2
        if _through(tables, float(times[middle])) is None:
            low = middle + 1
        else:
            high = middle
    return float(times[low])


def _spread(limits: Numbers) -> Sequence[float]:
    if len(limits) <= MOST_LIMITS:
        return [float(limit) for limit in limits]
    # Most of the gain is near the least limit, so the steps grow.
    places = np.unique(np.geomspace(1, len(limits), MOST_LIMITS).astype(int)) - 1
    return [float(limits[place]) for place in places]
