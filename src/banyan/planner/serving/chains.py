"""One pipeline of given groups: where to cut the layers, and how fast it then is. Pure.

For a wanted stage time, filling each group as far as it goes is optimal for a given order; the
least stage time with which all layers are placed is found by bisection.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from banyan.planner.serving.pace import (
    MOST_SEQUENCES,
    Pass,
    StagePass,
    pace_of,
    pipeline_pass,
)
from banyan.planner.serving.placed import Task
from banyan.planner.serving.tables import StageTable

Array = NDArray[np.float64]

HALVINGS = 22
COARSE = 8


@dataclass(frozen=True, slots=True)
class Chain:
    """A pipeline.

    Attributes:
        bounds: (first layer, end) of each group, in order; groups that are not needed have none.
        batch: sequences of a micro-batch.
        tokens_per_second: of answers.
    """

    bounds: tuple[tuple[int, int], ...]
    batch: int
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class _Side:
    """Main devices, or helpers, at one size of micro-batch, as running sums over the layers."""

    fixed: float
    seconds: list[float]
    weights: list[float]
    cache: list[float]
    head: float
    ends: tuple[float, float]
    limit: float

    def reach(self, first: int, seconds: float, cached: float) -> int:
        """End of the longest run of layers from `first` within a time and the memory."""
        last = len(self.seconds) - 1
        end = bisect_right(self.seconds, seconds - self.fixed + self.seconds[first] + 1e-15) - 1
        room = self.limit - (self.ends[0] if first == 0 else 0.0)
        if (
            self.weights[last]
            - self.weights[first]
            + cached * (self.cache[last] - self.cache[first])
            > room
        ):
            end = min(end, self._fitting(first, end, room, cached))
        if end == last:
            spent = self.fixed + self.head + self.seconds[last] - self.seconds[first]
            held = self.held(first, last, cached) + self.ends[1]
            if spent > seconds * (1 + 1e-12) or held > room:
                end = last - 1
        return end

    def held(self, first: int, end: int, cached: float) -> float:
        """Bytes of some layers with so many cached tokens."""
        return (
            self.weights[end] - self.weights[first] + cached * (self.cache[end] - self.cache[first])
        )

    def _fitting(self, first: int, end: int, room: float, cached: float) -> int:
        low, high = first, max(first, end)
        while low < high:
            middle = (low + high + 1) // 2
            if self.held(first, middle, cached) <= room:
                low = middle
            else:
                high = middle - 1
        return low


def best_chain(tables: Sequence[StageTable], hop: float, task: Task) -> Chain | None:
    """Cut the layers for the size of micro-batch that gives most tokens.

    Args:
        tables: of the groups, in order.
        hop: seconds from a stage to the next.
        task: workload and goal.
    """
    num_sizes = len(tables[0].batches)
    found: dict[int, Chain | None] = {}

    def tried(index: int) -> float:
        if index not in found:
            found[index] = _chain(tables, index, hop, task)
        chain = found[index]
        return chain.tokens_per_second if chain else -1.0

    # More sequences give more tokens until memory or the goal is at its end: coarse, then fine.
    best, width = max(range(0, num_sizes, COARSE), key=tried), COARSE
    while width > 1:
        width //= 2
        near = (max(0, best - width), best, min(num_sizes - 1, best + width))
        best = max(near, key=tried)
    return found[best]


def _chain(tables: Sequence[StageTable], index: int, hop: float, task: Task) -> Chain | None:
    """The best cut for one size of micro-batch."""
    size = int(tables[0].batches[index])
    cut = cut_layers(tables, index, task.load.cached_tokens(size * len(tables)))
    if cut is None and size == 1:
        # Too little room for a micro-batch in each stage; a lone one may still fit.
        cut = cut_layers(tables, index, task.load.cached_tokens(1))
    if cut is None:
        return None
    taken = chain_pass(tables, cut, index, hop)
    room = most_cached(tables, cut) - task.load.whole_context
    most = int(1 + room / task.workload.mean_context + 1e-9)
    stages = sum(end > first for first, end in cut)
    goal = task.workload.goal.time_per_output_token
    pace = pace_of(size, taken, max(1, most // size), stages, goal)
    return Chain(cut, size, pace.tokens_per_second) if pace else None


def prompt_chain(tables: Sequence[StageTable], task: Task) -> Chain | None:
    """Cut the layers so that most prompts pass; the rate is in answer tokens."""
    cut = cut_layers(tables, 0, task.load.whole_context)
    if cut is None:
        return None
    taken = chain_pass(tables, cut, 0, 0.0)
    return Chain(cut, 0, task.workload.answer_tokens / taken.slowest)


def chain_pass(
    tables: Sequence[StageTable], cut: Sequence[tuple[int, int]], index: int, hop: float
) -> Pass:
    """What one micro-batch takes."""
    stages = [
        _stage_pass(table, first, end, index)
        for table, (first, end) in zip(tables, cut, strict=True)
        if first < end
    ]
    hops = hop * len(stages) if len(stages) > 1 else 0.0
    return pipeline_pass(stages, hops, hops, float(tables[0].long_share[index]))


def _stage_pass(table: StageTable, first: int, end: int, index: int) -> StagePass:
    main, helper = table.fixed[:, index] + table.layers[:, index, first:end].sum(axis=1)
    long = table.long_fixed[index] + table.long_layers[index, first:end].sum()
    if end == table.layers.shape[2]:
        main += table.head[index]
        long += table.long_head[index]
    return StagePass(
        busiest=float(max(main, helper)),
        latency=float(main + helper + table.wire[index, first:end].sum()),
        long=float(long),
    )


def most_cached(tables: Sequence[StageTable], cut: Sequence[tuple[int, int]]) -> float:
    """Cached tokens that all stages have room for."""
    most = float(MOST_SEQUENCES) ** 3
    for table, (first, end) in zip(tables, cut, strict=True):
        if first == end:
            continue
        ends = table.ends[0] * (first == 0) + table.ends[1] * (end == table.weights.shape[1])
        for side, extra in ((0, ends), (1, 0.0)):
            each = table.cache[side, first:end].sum()
            if each > 0:
                held = table.weights[side, first:end].sum() + extra
                most = min(most, (table.limits[side] - held) / each)
    return most


def cut_layers(
    tables: Sequence[StageTable], index: int, cached: float
) -> tuple[tuple[int, int], ...] | None:
    """The cut with the least slowest stage; None where memory has no room for all layers."""
    sides = [_sides(table, index) for table in tables]
    num_layers = tables[0].layers.shape[2]
    high = sum(side.fixed + side.seconds[-1] + side.head for each in sides for side in each)
    cut = _filled(sides, num_layers, high, cached)
    if cut is None:
        return None
    low = 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried = _filled(sides, num_layers, middle, cached)
        if tried is None:
            low = middle
        else:
            cut, high = tried, middle
    return cut


def _filled(
    sides: Sequence[tuple[_Side, ...]], num_layers: int, seconds: float, cached: float
) -> tuple[tuple[int, int], ...] | None:
    first, cut = 0, []
    for each in sides:
        end = first
        if first < num_layers:
            end = max(first, min(side.reach(first, seconds, cached) for side in each))
        cut.append((first, end))
        first = end
    return tuple(cut) if first == num_layers else None


def _sides(table: StageTable, index: int) -> tuple[_Side, ...]:
    sides = [_side(table, index, 0)]
    if table.limits[1] > 0:
        sides.append(_side(table, index, 1))
    return tuple(sides)


def _sums(values: Array) -> list[float]:
    return [0.0, *accumulate(values.tolist())]


def _side(table: StageTable, index: int, side: int) -> _Side:
    return _Side(
        fixed=float(table.fixed[side, index]),
        seconds=_sums(table.layers[side, index]),
        weights=_sums(table.weights[side]),
        cache=_sums(table.cache[side]),
        head=float(table.head[index]) if side == 0 else 0.0,
        ends=table.ends if side == 0 else (0.0, 0.0),
        limit=table.limits[side],
    )
