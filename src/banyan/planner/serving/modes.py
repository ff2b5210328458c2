"""What groups sustain with so many sequences at once, for the column generation. Pure.

Rates are those of the lightest layers, without embedding, head and hops, with a micro-batch that
each stage chooses for itself within a range: never less than what a real pipeline gives, so what is
proven for them holds. What the chosen pipelines really give is computed by `chains`.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from banyan.planner.serving.cases import Mode
from banyan.planner.serving.kinds import Kinds
from banyan.planner.serving.pace import MOST_SEQUENCES
from banyan.planner.serving.placed import Task
from banyan.planner.serving.tables import StageTable

Array = NDArray[np.float64]
RANGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, MOST_SEQUENCES + 1)


def modes_of(
    kinds: Kinds,
    tables: Sequence[StageTable],
    task: Task,
    prompts: Sequence[StageTable] | None = None,
) -> Iterator[Mode]:
    """Every way to run: range of a micro-batch x micro-batches under way x zone.

    A pipeline has a micro-batch for each of its stages or more, so micro-batches under way limit
    the number of stages.

    Args:
        kinds: K kinds of group.
        tables: of each, with the load that answers bring (and prompts, unless they are apart).
        task: workload, goal and choices.
        prompts: tables for prompts where these are computed apart.
    """
    if not tables:
        return
    zones = np.array([kind.zone for kind in kinds.kinds])
    times_KNL = np.stack([table.lightest_seconds for table in tables])
    cached_KL = np.stack([table.most_cached() for table in tables])
    first, more = task.load.whole_context, task.workload.mean_context
    most_KL = np.where(cached_KL >= first, 1 + (cached_KL - first) / more, 0.0)
    prompt_KL = _prompt_rates(prompts, task) if prompts is not None else None
    goal = task.workload.goal.time_per_output_token
    for under_way in _counts(min(int(kinds.limits.sum()), len(task.shape.layers))):
        # Memory holds all micro-batches, and all of them pass a stage within the goal.
        batch_KL = np.floor(most_KL / under_way)
        if goal is not None:
            batch_KL = np.minimum(
                batch_KL, _batch_within(tables[0].batches, times_KNL, goal / under_way)
            )
        for low, end in pairwise(RANGES):
            taken = np.minimum(batch_KL, end - 1)
            rates = taken / _interpolated(tables[0].batches, times_KNL, taken)
            rates = np.where(batch_KL >= low, rates, 0.0)
            if not rates.any():
                break
            for zone in np.unique(zones):
                here = np.where((zones == zone)[:, None], rates, 0.0)
                passes = [here]
                if prompt_KL is not None:
                    passes.append(np.where((zones == zone)[:, None], prompt_KL, 0.0))
                if all(table.any() for table in passes):
                    yield Mode((low, under_way), tuple(passes), under_way)


def _counts(most: int) -> list[int]:
    """Numbers of micro-batches: each up to 24, then an eighth more each time."""
    counts, count = list[int](), 1
    while count <= max(1, most):
        counts.append(count)
        count = count + 1 if count < 24 else -(-count * 9 // 8)
    return counts


def _prompt_rates(tables: Sequence[StageTable], task: Task) -> Array:
    """Answer tokens per second for which a group computes the prompts (K, L)."""
    rates = []
    for table in tables:
        fits = table.most_cached() >= task.load.whole_context
        seconds = table.lightest_seconds[0]
        rates.append(np.where(fits, task.workload.answer_tokens / seconds, 0.0))
    return np.stack(rates)


def _interpolated(batches: Array, times_KNL: Array, batch_KL: Array) -> Array:
    """Seconds at sizes between those that were asked for; a chord lies above a convex curve."""
    above = np.clip(np.searchsorted(batches, batch_KL), 1, len(batches) - 1)
    low, high = batches[above - 1], batches[above]
    before = np.take_along_axis(times_KNL, (above - 1)[:, None, :], axis=1)[:, 0]
    after = np.take_along_axis(times_KNL, above[:, None, :], axis=1)[:, 0]
    return before + (after - before) * (batch_KL - low) / (high - low)


def _batch_within(batches: Array, times_KNL: Array, seconds: float) -> Array:
    """Largest size of a micro-batch that a stage passes in so many seconds."""
    fits = np.sum(times_KNL <= seconds, axis=1)
    above = np.clip(fits, 1, len(batches) - 1)
    before = np.take_along_axis(times_KNL, (above - 1)[:, None, :], axis=1)[:, 0]
    after = np.take_along_axis(times_KNL, above[:, None, :], axis=1)[:, 0]
    low, high = batches[above - 1], batches[above]
    reached = low + (high - low) * (seconds - before) / np.maximum(after - before, 1e-30)
    # Sizes are whole numbers; one that is just reached counts.
    return np.where(fits == 0, 0.0, np.clip(np.floor(reached + 1e-9), 1, batches[-1]))
