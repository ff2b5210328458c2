"""Seconds and bytes of any run of layers on a group, from a few questions to the cost model. Pure.

A stage costs something for itself, something for each layer, and the last one the head. A few parts
are asked for and everything else is added up, so that thousands of stages can be compared. What is
chosen is forecast again part by part.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from banyan.planner.model_shape import ModelShape
from banyan.planner.serving.groups import (
    Group,
    LoadSeconds,
    StageSeconds,
    group_memory,
    load_seconds,
)
from banyan.planner.serving.placed import Task
from banyan.planner.serving.steps import Phase

Array = NDArray[np.float64]


# `cached_property` needs a place to keep its value.
@dataclass(frozen=True)
class StageTable:
    """One group.

    Attributes:
        batches: sizes of a micro-batch that were asked for (N).
        fixed: seconds of a stage beside its layers: main, helper (2, N).
        layers: seconds of each layer: main, helper (2, N, L).
        wire: seconds that a layer is under way between devices and helpers (N, L).
        head: seconds of the head, on the main devices (N).
        weights: bytes of each layer on a device: main, helper (2, L).
        cache: bytes of a cached token of each layer on a device: main, helper (2, L).
        ends: bytes of the embedding, and of the head, on a main device.
        limits: bytes there are: main, helper.
        long_share: share of the steps that take a chunk of a prompt along (N).
        long_fixed: seconds of such a step in a stage beside its layers (N).
        long_layers: of each layer, from in to out (N, L).
        long_head: of the head (N).
    """

    batches: Array
    fixed: Array
    layers: Array
    wire: Array
    head: Array
    weights: Array
    cache: Array
    ends: tuple[float, float]
    limits: tuple[float, float]
    long_share: Array
    long_fixed: Array
    long_layers: Array
    long_head: Array

    @cached_property
    def lightest_seconds(self) -> Array:
        """Seconds of the lightest 1, 2, ... L layers behind each other; busiest part (N, L)."""
        main, helper = (
            fixed[:, None] + _lightest(layers)
            for fixed, layers in zip(self.fixed, self.layers, strict=True)
        )
        return np.asarray(np.maximum(main, helper))

    def most_cached(self) -> Array:
        """Cached tokens that fit beside the lightest 1, 2, ... L layers (L)."""
        most = np.full(self.weights.shape[1], np.inf)
        for weights, cache, limit in zip(self.weights, self.cache, self.limits, strict=True):
            left = limit - _lightest(weights)
            each = _lightest(cache)
            with np.errstate(divide="ignore", invalid="ignore"):
                room = np.where(each > 0, left / each, np.inf)
            most = np.minimum(most, np.where(left >= 0, room, -1.0))
        return most


def _lightest(layers: Array) -> Array:
    """Least sum of 1, 2, ... L neighbours along the last axis."""
    num_layers = layers.shape[-1]
    if np.ptp(layers, axis=-1).max(initial=0.0) == 0.0:
        return layers[..., :1] * np.arange(1, num_layers + 1)
    sums = np.concatenate([np.zeros((*layers.shape[:-1], 1)), np.cumsum(layers, axis=-1)], axis=-1)
    return np.stack(
        [(sums[..., k:] - sums[..., :-k]).min(axis=-1) for k in range(1, num_layers + 1)], axis=-1
    )


def stage_table(task: Task, group: Group, batches: tuple[int, ...], phase: Phase) -> StageTable:
    """Ask the cost model about a group."""
    alike = _alike(task.shape)
    asked = [_asked(task, group, alike, batch, phase) for batch in batches]
    means = [_Costs.of([each.mean for each in answers], alike) for answers in asked]
    longs = [_Costs.of([each.long for each in answers], alike) for answers in asked]
    weights, cache, ends = _bytes(task, group, alike)
    share = task.choices.memory_share
    helper_memory = group.helper.memory_bytes if group.helper else 0
    return StageTable(
        batches=np.array(batches, dtype=float),
        fixed=np.array([(each.fixed.main, each.fixed.helper) for each in means]).T,
        layers=np.array([[(a.main, a.helper) for a in each.layers] for each in means]).transpose(
            2, 0, 1
        ),
        wire=np.array([[a.wire for a in each.layers] for each in means]),
        head=np.array([each.head for each in means]),
        weights=weights,
        cache=cache,
        ends=ends,
        limits=(group.type.memory_bytes * share, helper_memory * share),
        long_share=np.array([task.load.long_share(batch, phase) for batch in batches]),
        long_fixed=np.array([each.fixed.latency for each in longs]),
        long_layers=np.array([[a.latency for a in each.layers] for each in longs]),
        long_head=np.array([each.head for each in longs]),
    )


def _alike(shape: ModelShape) -> tuple[int, ...]:
    """For each layer the first one that is like it."""
    first: dict[object, int] = {}
    return tuple(first.setdefault(layer, index) for index, layer in enumerate(shape.layers))


def _runs(alike: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Runs of layers to ask for: a row of layers that are alike, one of them, one of each class.

    Not the last layer, where there is another of its class: it has the head with it. That one is
    asked for at the end.
    """
    last = len(alike) - 1
    pair = next((i for i in range(last - 1) if alike[i] == alike[i + 1]), None)
    rows = [] if pair is None else [(pair, pair + 1), (pair, pair + 2)]
    for kind in dict.fromkeys(alike):
        index = next((i for i in range(last) if alike[i] == kind), last)
        rows.append((index, index + 1))
    return (*rows, (last, last + 1))


def _asked(
    task: Task, group: Group, alike: tuple[int, ...], batch: int, phase: Phase
) -> list[LoadSeconds]:
    return [
        load_seconds(task.costs, task.shape, group, run, task.load, batch, phase)
        for run in _runs(alike)
    ]


@dataclass(frozen=True, slots=True)
class _Costs:
    """What a stage, each layer, and the head cost."""

    fixed: StageSeconds
    layers: tuple[StageSeconds, ...]
    head: float

    @classmethod
    def of(cls, asked: list[StageSeconds], alike: tuple[int, ...]) -> "_Costs":
        """From the answers to `_runs`."""
        classes = tuple(dict.fromkeys(alike))
        fixed = StageSeconds(0.0, 0.0, 0.0)
        if len(asked) > len(classes) + 1:
            one, two = asked[:2]
            fixed = StageSeconds(
                max(0.0, 2 * one.main - two.main), max(0.0, 2 * one.helper - two.helper), 0.0
            )
        by_class = {
            kind: StageSeconds(
                max(0.0, taken.main - fixed.main), max(0.0, taken.helper - fixed.helper), taken.wire
            )
            for kind, taken in zip(classes, asked[-len(classes) - 1 : -1], strict=True)
        }
        layers = tuple(by_class[kind] for kind in alike)
        return cls(fixed, layers, max(0.0, asked[-1].main - fixed.main - layers[-1].main))


def _bytes(
    task: Task, group: Group, alike: tuple[int, ...]
) -> tuple[Array, Array, tuple[float, float]]:
    """Bytes of each layer and cached token on main devices and helpers, and of both tables."""
    num_layers = len(alike)
    weights, cache = np.zeros((2, num_layers)), np.zeros((2, num_layers))
    tables: dict[int, float] = {}
    for index in range(num_layers):
        held = group_memory(task.costs, task.shape, group, (index, index + 1), 0.0)
        full = group_memory(task.costs, task.shape, group, (index, index + 1), 1.0)
        weights[:, index] = held
        cache[:, index] = np.subtract(full, held)
    inner = {alike[i]: weights[0, i] for i in range(1, num_layers - 1)}
    for index in (0, num_layers - 1):
        tables[index] = max(0.0, weights[0, index] - inner.get(alike[index], weights[0, index]))
        weights[0, index] -= tables[index]
    return weights, cache, (tables[0], tables[num_layers - 1])
