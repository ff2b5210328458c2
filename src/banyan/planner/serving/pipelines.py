"""Column generation over pipelines: how many of which to build, and a proven bound. Pure.

A column is a whole pipeline: groups of devices by kind and the rate that all of them sustain. The
master program (HiGHS) says how many of each to build and what a device is worth; the knapsack
recurrence of `covering` finds pipelines that are worth more than their devices cost; again, until
there is none. Scaling the prices of any round until no pipeline is worth more than it costs gives a
bound on all plans (Farley 1990), so the gap is known whenever one stops.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from banyan.planner.linear_program import maximise
from banyan.planner.serving.cases import (
    Cases,
    Column,
    Problem,
    cases_of,
    column_of,
    least_prices,
)
from banyan.planner.serving.covering import cheapest_covers
from banyan.planner.serving.fitting import FEW_DEVICES, fitting_covers, plausible

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

BATCH = 128
NEW_COLUMNS = 64
MOST_BATCHES = 8
PATIENCE = 4


@dataclass(frozen=True, slots=True)
class Chosen:
    """Pipelines to build.

    Attributes:
        columns: with how many of each.
        tokens_per_second: of all of them.
        upper_bound: proven for every choice of pipelines of the problem; None where costs were
            weighed, too.
        generated: every column that was looked at.
    """

    columns: tuple[tuple[Column, int], ...]
    tokens_per_second: float
    upper_bound: float | None
    generated: tuple[Column, ...]


def choose_pipelines(
    problem: Problem,
    *,
    cost_K: Array | None = None,
    weight: float = 1.0,
    achieved: Callable[[Column], float] | None = None,
) -> Chosen:
    """Build the pipelines that together give most tokens per second.

    Args:
        problem: groups and what they sustain.
        cost_K: what one group of each kind costs, in tokens per second; taken from the value.
        weight: what one token per second is worth.
        achieved: tokens per second that a column gives when everything counts; its own `rate`
            where nothing else is known. Never more than that.
    """
    chosen = more = _choose(problem, cost_K, weight, achieved)
    # Whole numbers of the columns found can leave devices over that make a pipeline together.
    left = problem
    while more.columns:
        left = _without(left, more)
        more = _choose(left, cost_K, weight, achieved)
        total = chosen.tokens_per_second + more.tokens_per_second
        chosen = Chosen(
            chosen.columns + more.columns,
            total,
            None if chosen.upper_bound is None else max(total, chosen.upper_bound),
            chosen.generated + more.generated,
        )
    return chosen


def _without(problem: Problem, taken: Chosen) -> Problem:
    """The problem with what is left when some pipelines are built."""
    num_kinds = len(problem.uses)
    used_K = np.zeros(num_kinds, dtype=np.int64)
    for column, amount in taken.columns:
        used_K += amount * np.asarray(column.counts(num_kinds))
    limits = problem.limits - used_K @ problem.uses
    group_limits = None if problem.group_limits is None else problem.group_limits - used_K
    return replace(problem, limits=limits, group_limits=group_limits)


def _choose(
    problem: Problem,
    cost_K: Array | None,
    weight: float,
    achieved: Callable[[Column], float] | None,
) -> Chosen:
    """Build pipelines once; devices may be left over."""
    num_kinds = len(problem.uses)
    fixed_K = np.zeros(num_kinds) if cost_K is None else cost_K
    bound, chosen = _generate(problem, tuple(cases_of(problem)), fixed_K, weight)
    rates = np.array([c.rate if achieved is None else achieved(c) for c in chosen])
    counts_NK = np.array([column.counts(num_kinds) for column in chosen]).reshape(-1, num_kinds)
    values = weight * rates - counts_NK @ fixed_K
    answer = maximise(values, *_rows(problem, counts_NK), integer=True)
    amounts = np.zeros(len(chosen)) if answer is None else answer.amounts
    taken = tuple(
        (column, int(amount))
        for column, amount in zip(chosen, amounts, strict=True)
        if amount > 0.5
    )
    total = float(rates @ amounts) if len(chosen) else 0.0
    if cost_K is not None:
        return Chosen(taken, total, None, tuple(chosen))
    bound = min(bound, work_bound(problem))
    return Chosen(taken, total, max(total, bound), tuple(chosen))


def work_bound(problem: Problem) -> float:
    """Most tokens per second for which the devices can compute all layers of every token.

    F tokens per second ask for L x F layers per second; a device that holds k layers at rate T
    computes at most k x min(T, F). Holds even where pipelines share groups.
    """
    layers = np.arange(1, problem.num_layers + 1)
    best_KL = np.zeros((len(problem.uses), problem.num_layers))
    for mode in problem.modes:
        best_KL = np.maximum(best_KL, mode.passes[0])
    works: list[tuple[Array, Array]] = []
    for resource in range(len(problem.limits)):
        kinds = np.flatnonzero(problem.uses[:, resource])
        share_KL = layers / problem.uses[kinds, resource][:, None]
        works.append((np.append(best_KL[kinds], 0.0), np.append(share_KL, 0.0)))
    low, high = (
        0.0,
        max((float(rates.max()) for rates, _ in works), default=0.0)
        * sum(int(limit) for limit in problem.limits),
    )
    for _ in range(100):
        middle = (low + high) / 2
        work = sum(
            limit * float(np.max(np.minimum(rates, middle) * share))
            for limit, (rates, share) in zip(problem.limits, works, strict=True)
        )
        low, high = (middle, high) if work >= problem.num_layers * middle else (low, middle)
    return high


def _rows(problem: Problem, counts_NK: Integers) -> tuple[Array, Array]:
    usage = counts_NK @ problem.uses
    limits = problem.limits.astype(float)
    if problem.group_limits is None:
        return usage.astype(float), limits
    return (
        np.concatenate([usage, counts_NK], axis=1).astype(float),
        np.concatenate([limits, problem.group_limits.astype(float)]),
    )


def _generate(
    problem: Problem, groups: tuple[Cases, ...], fixed_K: Array, weight: float
) -> tuple[float, list[Column]]:
    """Columns until none is worth more than it costs, and the bound that proves it."""
    limits = _rows(problem, np.zeros((0, len(fixed_K)), dtype=np.int64))[1]
    columns: dict[Column, None] = {}
    centre, bound = _capacity_prices(problem), np.inf
    prices = centre
    stalled, last = 0, 0.0
    for number in range(problem.most_rounds):
        # The last look is a full one: its bound is the tightest.
        final = stalled > PATIENCE or number == problem.most_rounds - 1
        price_K = _group_prices(problem, prices) + fixed_K
        ratio, found = _worth_most(problem, groups, price_K, weight, MOST_BATCHES * (1 + 9 * final))
        if ratio * float(prices @ limits) < bound:
            bound, centre = ratio * float(prices @ limits), prices * ratio
        columns.update(dict.fromkeys(found))
        master = _solve_master(problem, list(columns), fixed_K, weight)
        if final or master is None or master[0] >= bound * (1 - 1e-6):
            break
        progress = master[0] / bound
        stalled = stalled + 1 if progress < last + 2e-3 else 0
        last = max(last, progress)
        # Prices between those of the master and the best so far: the master's alone swing.
        prices = centre if stalled > PATIENCE else 0.5 * centre + 0.5 * master[1]
    columns.update(dict.fromkeys(_fitting(problem, groups, prices, fixed_K, weight)))
    return bound, list(columns)


def _fitting(
    problem: Problem, groups: tuple[Cases, ...], prices: Array, fixed_K: Array, weight: float
) -> list[Column]:
    """Where devices are few: pipelines for which all of them together are enough."""
    # Where no two kinds want the same device, the knapsack has counted all limits already.
    is_shared = np.sum(problem.uses > 0, axis=0).max(initial=0) > 1
    is_shared = is_shared or any(len(mode.passes) > 1 for mode in problem.modes)
    if int(problem.limits.sum()) > FEW_DEVICES or not problem.most_programs or not is_shared:
        return []
    price_K, columns = _group_prices(problem, prices) + fixed_K, list[Column]()
    for cases in groups:
        least = np.sum(
            [least_prices(problem, cases, layers, price_K) for layers in cases.layers], axis=0
        )
        hope = weight * cases.values / np.maximum(least, 1e-12)
        for layers in cases.layers:
            held = plausible(layers, problem.uses, problem.limits)
            least[held < problem.num_layers] = np.inf
        ways = []
        for mode in np.unique(cases.modes):
            inside = np.flatnonzero((cases.modes == mode) & np.isfinite(least))
            if len(inside):
                ways.append((float(hope[inside].max()), inside[np.argsort(cases.rates[inside])]))
        ways.sort(key=lambda way: -way[0])
        found = fitting_covers(
            [
                [
                    (int(i), tuple(layers[i] for layers in cases.layers), int(cases.most_groups[i]))
                    for i in inside
                ]
                for _, inside in ways
            ],
            problem.uses,
            problem.limits,
            problem.most_groups,
            price_K,
            problem.num_layers,
            problem.most_programs // len(groups),
        )
        columns += [column_of(cases, case, list(counts)) for case, counts in found.items()]
    return columns


def _solve_master(
    problem: Problem, columns: list[Column], fixed_K: Array, weight: float
) -> tuple[float, Array] | None:
    if not columns:
        return None
    counts = np.array([column.counts(len(fixed_K)) for column in columns])
    values = weight * np.array([column.rate for column in columns]) - counts @ fixed_K
    answer = maximise(values, *_rows(problem, counts))
    return None if answer is None else (answer.objective, answer.prices)


def _group_prices(problem: Problem, prices: Array) -> Array:
    num_resources = len(problem.limits)
    each = problem.uses @ prices[:num_resources]
    return each if problem.group_limits is None else each + prices[num_resources:]


def _capacity_prices(problem: Problem) -> Array:
    """A device is worth the layers x tokens it can compute, over the layers of the model."""
    layers = np.arange(1, problem.num_layers + 1)
    best_K = np.zeros(len(problem.uses))
    for mode in problem.modes:
        for table in mode.passes:
            best_K = np.maximum(best_K, (table * layers).max(axis=1) / problem.num_layers)
    share_K = best_K / np.maximum(problem.uses.sum(axis=1), 1)
    worth = np.where(problem.uses > 0, share_K[:, None], 1e-12).max(axis=0)
    if problem.group_limits is None:
        return np.asarray(worth)
    return np.concatenate([worth, np.zeros(len(problem.group_limits))])


def _worth_most(
    problem: Problem,
    groups: tuple[Cases, ...],
    price_K: Array,
    weight: float,
    most_batches: int,
) -> tuple[float, list[Column]]:
    """The most that a pipeline is worth of what its devices cost, and the best pipelines."""
    best, found = 0.0, list[tuple[float, Column]]()
    for cases in groups:
        best, more = _search(problem, cases, price_K, weight, best, most_batches)
        found += more
    found.sort(key=lambda pair: -pair[0])
    return best, [column for _, column in found[:NEW_COLUMNS]]


def _search(
    problem: Problem,
    cases: Cases,
    price_K: Array,
    weight: float,
    best: float,
    most_batches: int,
) -> tuple[float, list[tuple[float, Column]]]:
    """Look at cases in the order of what they could be worth, until none can beat the best."""
    least = np.sum(
        [least_prices(problem, cases, layers, price_K) for layers in cases.layers], axis=0
    )
    hope = np.where(np.isfinite(least), weight * cases.values / np.maximum(least, 1e-12), 0.0)
    order = np.argsort(-hope, kind="stable")
    found = list[tuple[float, Column]]()
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        batch = batch[hope[batch] > best]
        if not len(batch):
            break
        if start >= most_batches * BATCH:
            # Enough for this round: what was not looked at counts with what it could be worth.
            best = max(best, float(hope[batch[0]]))
            break
        covers = [
            cheapest_covers(
                layers[batch],
                np.broadcast_to(price_K, (len(batch), len(price_K))),
                problem.most_groups,
                problem.num_layers,
                cases.most_groups[batch],
            )
            for layers in cases.layers
        ]
        price = np.sum([cover.prices for cover in covers], axis=0)
        floor = np.sum([cover.floors for cover in covers], axis=0)
        best = max(best, float(np.max(weight * cases.values[batch] / np.maximum(floor, 1e-12))))
        for place in np.flatnonzero(np.isfinite(price)):
            counts = [cover.counts[place] for cover in covers]
            column = column_of(cases, int(batch[place]), counts)
            found.append((weight * column.rate / max(float(price[place]), 1e-12), column))
    return best, found
