"""Column generation over pipelines: how many of which to build, and a proven bound. Pure.

A column is a whole pipeline: groups of devices by kind and the rate that all of them sustain. The
master program (HiGHS) says how many of each to build and what a device is worth; the knapsack
recurrence of `covering` finds pipelines that are worth more than their devices cost; again, until
there is none. Scaling the prices of any round until no pipeline is worth more than it costs gives a
bound on all plans (Farley 1990), so the gap is known whenever one stops.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from banyan.planner.linear_program import maximise
from banyan.planner.serving.covering import cheapest_covers, layers_at_rate

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_ROUNDS = 40
MOST_RATES = 96
BATCH = 128
NEW_COLUMNS = 64


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run pipelines: so many sequences at once.

    Attributes:
        name: what the caller knows it by: (sequences of a micro-batch, micro-batches), ...
        passes: for each part of the work that needs all layers (answers; prompts, where they are
            computed apart) rates_KL, the tokens per second that a group of each kind sustains with
            1, 2, ... L layers.
        most_groups: in a row.
    """

    name: tuple[int, ...]
    passes: tuple[Array, ...]
    most_groups: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Groups of devices, and what they sustain.

    Attributes:
        num_layers: of the model.
        uses: devices of each type that a group of each kind takes (K, R).
        limits: devices there are of each type (R).
        modes: ways to run a pipeline.
        group_limits: groups of each kind there can be (K); None where the devices alone limit them.
    """

    num_layers: int
    uses: Integers
    limits: Integers
    modes: tuple[Mode, ...]
    group_limits: Integers | None = None

    @property
    def most_groups(self) -> Integers:
        """Groups of each kind that the devices are enough for."""
        with np.errstate(divide="ignore"):
            each = np.where(self.uses > 0, self.limits // np.maximum(self.uses, 1), 10**9)
        most: Integers = each.min(axis=1).astype(np.int64)
        return most if self.group_limits is None else np.minimum(most, self.group_limits)


@dataclass(frozen=True, slots=True)
class Column:
    """One pipeline.

    Attributes:
        mode: index of the way to run it.
        rate: tokens per second that each of its groups sustains.
        passes: for each pass (kind, layers it may hold, how many groups).
    """

    mode: int
    rate: float
    passes: tuple[tuple[tuple[int, int, int], ...], ...]

    def counts(self, num_kinds: int) -> Integers:
        """Groups of each kind, counts_K."""
        counts = np.zeros(num_kinds, dtype=np.int64)
        for groups in self.passes:
            for kind, _, count in groups:
                counts[kind] += count
        return counts


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


@dataclass(slots=True)
class _Cases:
    """Every (mode, wanted rate): what groups may hold then. N cases, P passes."""

    modes: Integers
    rates: Array
    values: Array
    layers: list[Integers] = field(default_factory=list)
    most_groups: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


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
    num_kinds = len(problem.uses)
    fixed_K = np.zeros(num_kinds) if cost_K is None else cost_K
    bound, chosen = _generate(problem, tuple(_cases_by_passes(problem)), fixed_K, weight)
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
    works: list[tuple[Array, Array]] = []
    for resource in range(len(problem.limits)):
        rates, shares = [np.zeros(1)], [np.zeros(1)]
        for kind in np.flatnonzero(problem.uses[:, resource]):
            for mode in problem.modes:
                rates.append(mode.passes[0][kind])
                shares.append(layers / problem.uses[kind, resource])
        works.append((np.concatenate(rates), np.concatenate(shares)))
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


def _cases_by_passes(problem: Problem) -> Iterator[_Cases]:
    """Cases of modes with one pass, then of those with two, ..."""
    for num_passes in sorted({len(mode.passes) for mode in problem.modes}):
        cases = _Cases(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
        parts: list[list[Integers]] = [[] for _ in range(num_passes)]
        modes, rates, values, most = [], [], [], []
        for index, mode in enumerate(problem.modes):
            if len(mode.passes) != num_passes:
                continue
            wanted, value = _wanted_rates(mode)
            modes.append(np.full(len(wanted), index))
            most.append(np.full(len(wanted), mode.most_groups))
            rates.append(wanted)
            values.append(value)
            for part, table in zip(parts, mode.passes, strict=True):
                part.append(layers_at_rate(table, wanted))
        cases.modes, cases.most_groups = np.concatenate(modes), np.concatenate(most)
        cases.rates, cases.values = np.concatenate(rates), np.concatenate(values)
        cases.layers = [np.concatenate(part) for part in parts]
        if len(cases.rates):
            yield cases


def _wanted_rates(mode: Mode) -> tuple[Array, Array]:
    """Rates at which what groups can hold changes, and the highest rate that each stands for.

    Only these matter: between two of them a pipeline may as well run at the upper one. Where there
    are very many, some are left out, and the rate below stands for them in the bound.
    """
    every = np.unique(np.concatenate([table[table > 0].ravel() for table in mode.passes]))
    if not len(every):
        return every, every
    kept = every
    if len(every) > MOST_RATES:
        ratio = (every[-1] / every[0]) ** (1.0 / MOST_RATES)
        bucket = np.floor(np.log(every / every[0]) / np.log(max(ratio, 1 + 1e-9)))
        kept = every[np.flatnonzero(np.diff(bucket, prepend=-1.0))]
    last = np.append(np.searchsorted(every, kept[1:]) - 1, len(every) - 1)
    return kept, every[last]


def _generate(
    problem: Problem, groups: tuple[_Cases, ...], fixed_K: Array, weight: float
) -> tuple[float, list[Column]]:
    """Columns until none is worth more than it costs, and the bound that proves it."""
    limits = _rows(problem, np.zeros((0, len(fixed_K)), dtype=np.int64))[1]
    columns: dict[Column, None] = {}
    centre, bound = _capacity_prices(problem), np.inf
    prices = centre
    for _ in range(MOST_ROUNDS):
        ratio, found = _worth_most(problem, groups, _group_prices(problem, prices), fixed_K, weight)
        if ratio * float(prices @ limits) < bound:
            bound, centre = ratio * float(prices @ limits), prices * ratio
        known = len(columns)
        columns.update(dict.fromkeys(found))
        master = _solve_master(problem, list(columns), fixed_K, weight)
        if master is None or master[0] >= bound * (1 - 1e-6):
            break
        if len(columns) == known:
            if prices is master[1]:
                break
            prices = master[1]
            continue
        # Prices between those of the master and the best so far: the master's alone swing.
        prices = 0.5 * centre + 0.5 * master[1]
    return bound, list(columns)


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
    worth = np.full(len(problem.limits), 1e-12)
    layers = np.arange(1, problem.num_layers + 1)
    for mode in problem.modes:
        for table in mode.passes:
            best_K = (table * layers).max(axis=1) / problem.num_layers
            for kind, resources in enumerate(problem.uses):
                used = np.flatnonzero(resources)
                worth[used] = np.maximum(worth[used], best_K[kind] / resources[used].sum())
    if problem.group_limits is None:
        return worth
    return np.concatenate([worth, np.zeros(len(problem.group_limits))])


def _worth_most(
    problem: Problem, groups: tuple[_Cases, ...], prices_K: Array, fixed_K: Array, weight: float
) -> tuple[float, list[Column]]:
    """The most that a pipeline is worth of what its devices cost, and the best pipelines."""
    best, found = 0.0, list[tuple[float, Column]]()
    for cases in groups:
        best, more = _search(problem, cases, prices_K + fixed_K, weight, best)
        found += more
    found.sort(key=lambda pair: -pair[0])
    return best, [column for _, column in found[:NEW_COLUMNS]]


def _search(
    problem: Problem, cases: _Cases, price_K: Array, weight: float, best: float
) -> tuple[float, list[tuple[float, Column]]]:
    """Look at cases in the order of what they could be worth, until none can beat the best."""
    with np.errstate(divide="ignore", invalid="ignore"):
        least = sum(
            problem.num_layers * np.min(np.where(layers > 0, price_K / layers, np.inf), axis=1)
            for layers in cases.layers
        )
    hope = np.where(np.isfinite(least), weight * cases.values / np.maximum(least, 1e-12), 0.0)
    order = np.argsort(-hope, kind="stable")
    found = list[tuple[float, Column]]()
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        batch = batch[hope[batch] > best]
        if not len(batch):
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
            column = _column(cases, int(batch[place]), counts)
            found.append((weight * column.rate / max(float(price[place]), 1e-12), column))
    return best, found


def _column(cases: _Cases, case: int, counts: list[Integers]) -> Column:
    return Column(
        int(cases.modes[case]),
        float(cases.rates[case]),
        tuple(
            tuple(
                (int(kind), int(layers[case][kind]), int(taken[kind]))
                for kind in np.flatnonzero(taken)
            )
            for layers, taken in zip(cases.layers, counts, strict=True)
        ),
    )
