"""Pipelines to look at: ways to run them, and the rates that are worth wanting. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from banyan.planner.serving.covering import layers_at_rate

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_RATES = 96
TOLLS = (0.1, 0.3, 1.0, 3.0)


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
        most_programs: integer programs that look for pipelines for which few devices are enough.
        most_rounds: of looking for columns.
        group_limits: groups of each kind there can be (K); None where the devices alone limit them.
    """

    num_layers: int
    uses: Integers
    limits: Integers
    modes: tuple[Mode, ...]
    group_limits: Integers | None = None
    most_programs: int = 60
    most_rounds: int = 40

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


@dataclass(slots=True)
class Cases:
    """Every (mode, wanted rate): what groups may hold then. N cases, P passes."""

    modes: Integers
    rates: Array
    values: Array
    layers: list[Integers] = field(default_factory=list)
    most_groups: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def cases_of(problem: Problem) -> Iterator[Cases]:
    """Cases of modes with one pass, then of those with two, ..."""
    for num_passes in sorted({len(mode.passes) for mode in problem.modes}):
        cases = Cases(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
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


def least_prices(problem: Problem, cases: Cases, layers: Integers, price_K: Array) -> Array:
    """A price that no cover stays under: layers may be cut anywhere (N).

    Few groups in a row are kept by a toll on each, given back for as many as there may be.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(layers > 0, 1.0 / layers, np.inf)
        least = np.zeros(len(layers))
        for toll in (0.0, *(float(np.median(price_K)) * share for share in TOLLS)):
            cheapest = problem.num_layers * np.min((price_K + toll) * each, axis=1)
            least = np.maximum(least, cheapest - toll * cases.most_groups)
    least[cases.most_groups * layers.max(axis=1) < problem.num_layers] = np.inf
    return least


def column_of(cases: Cases, case: int, counts: list[Integers]) -> Column:
    """The pipeline that takes so many groups of each kind in each pass."""
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
