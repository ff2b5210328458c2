"""The best training plan over uneven devices. Pure.

Outside, every layout, size of micro-batch and order of passes is scored by closed form, with the
cut of `cutting` and the shares of `shares`; the best few are then played pass by pass. (Scoring as
in Sailor, SOSP 2025; layers and batches balanced together.)
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from banyan.planner.costs import CostModel
from banyan.planner.inventory import Inventory, PlannedDevice
from banyan.planner.model_shape import ModelShape
from banyan.planner.training.cutting import cut_layers
from banyan.planner.training.job import ORDERS, Order, TrainingJob
from banyan.planner.training.layer_costs import LayerCosts, layer_costs
from banyan.planner.training.layouts import FEW, Layout, layouts_of
from banyan.planner.training.order import (
    StageTimes,
    estimated_seconds,
    num_in_flight,
    pipeline_seconds,
)
from banyan.planner.training.shares import least_maximum

PLAYED = 24
"""Candidates that are played pass by pass."""
MOST_SEQUENCES = 64
"""In a micro-batch."""
ROUNDS = 2
"""Cut, share, and cut again for the shares that came of it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layout with everything chosen.

    Attributes:
        layout: devices of each pipeline.
        ends: of each pipeline, where its stages end.
        shares: micro-batches of each pipeline.
        micro_batch: sequences in one.
        order: of the passes.
    """

    layout: Layout
    ends: tuple[tuple[int, ...], ...]
    shares: tuple[int, ...]
    micro_batch: int
    order: Order


class TrainingSpace:
    """Everything that does not change while plans are compared; remembers what it computed."""

    def __init__(
        self, shape: ModelShape, inventory: Inventory, job: TrainingJob, costs: CostModel
    ) -> None:
        self.shape = shape
        self.inventory = inventory
        self.job = job
        self.costs = costs
        self._layers: dict[tuple[str, int], LayerCosts] = {}
        self._played: dict[object, float | None] = {}
        self._cuts: dict[object, _Cut] = {}

    def layers(self, device: PlannedDevice, micro_batch: int) -> LayerCosts:
        """What the layers cost a device."""
        key = (device.type.name, micro_batch)
        if key not in self._layers:
            self._layers[key] = layer_costs(
                self.shape, device.type, self.job, micro_batch, self.costs
            )
        return self._layers[key]

    def times(
        self, row: Sequence[PlannedDevice], ends: Sequence[int], micro_batch: int
    ) -> list[StageTimes] | None:
        """Seconds of each stage; None where neighbours do not reach each other."""
        sent = micro_batch * self.job.sequence_tokens * self.shape.token_bytes
        found = []
        for number, (device, first, end) in enumerate(zip(row, (0, *ends[:-1]), ends, strict=True)):
            hop = 0.0
            if number + 1 < len(row):
                link = self.inventory.link(device, row[number + 1])
                if link is None:
                    return None
                hop = link.transfer_seconds(sent)
            found.append(StageTimes(*self.layers(device, micro_batch).seconds(first, end), hop))
        return found

    def adding_up_seconds(self, layout: Layout, ends: Sequence[Sequence[int]]) -> float | None:
        """Time to add up gradients around the ring of pipelines, by its slowest link."""
        count = len(layout)
        if count == 1:
            return 0.0
        largest = max(
            self.layers(device, 1).gradient[end] - self.layers(device, 1).gradient[first]
            for row, row_ends in zip(layout, ends, strict=True)
            for device, first, end in zip(row, (0, *row_ends[:-1]), row_ends, strict=True)
        )
        links = [
            self.inventory.link(row[0], layout[(number + 1) % count][0])
            for number, row in enumerate(layout)
        ]
        rates = [link.bytes_per_second for link in links if link is not None]
        if len(rates) < len(links):
            return None
        return 2 * (count - 1) / count * float(largest) / min(rates)

    def played(
        self,
        row: Sequence[PlannedDevice],
        ends: tuple[int, ...],
        count: int,
        micro_batch: int,
        order: Order,
    ) -> float | None:
        """Seconds of a pipeline, pass by pass; None where neighbours do not reach each other."""
        key = (tuple((one.type.name, one.host) for one in row), ends, count, micro_batch, order)
        if key not in self._played:
            times = self.times(row, ends, micro_batch)
            self._played[key] = None if times is None else pipeline_seconds(times, count, order)
        return self._played[key]

    def cut(
        self, row: Sequence[PlannedDevice], micro_batch: int, count: int, order: Order
    ) -> "_Cut":
        """The best cut of a pipeline for so many micro-batches."""
        key = (tuple((one.type.name, one.host) for one in row), micro_batch, count, order)
        if key not in self._cuts:
            stages = [self.layers(device, micro_batch) for device in row]
            ends = cut_layers(stages, count, order)
            times = None if ends is None else self.times(row, ends, micro_batch)
            most = 0
            if ends is not None:
                most = self._most_micro_batches(row, ends, micro_batch, order)
            self._cuts[key] = _Cut(ends or (), tuple(times or ()), most)
        return self._cuts[key]

    def _most_micro_batches(
        self, row: Sequence[PlannedDevice], ends: Sequence[int], micro_batch: int, order: Order
    ) -> int:
        """How many micro-batches a cut has the memory for."""
        total = self.job.sequences_per_step // micro_batch
        return (
            total
            if self.fits(row, ends, micro_batch, total, order)
            else _largest(lambda count: self.fits(row, ends, micro_batch, count, order), total)
        )

    def fits(
        self,
        row: Sequence[PlannedDevice],
        ends: Sequence[int],
        micro_batch: int,
        count: int,
        order: Order,
    ) -> bool:
        """Tell whether every stage holds its layers and the micro-batches under way."""
        firsts = (0, *ends[:-1])
        return all(
            self.layers(device, micro_batch).bytes_held(
                first, end, num_in_flight(number, len(row), count, order)
            )
            <= device.type.memory_bytes
            for number, (device, first, end) in enumerate(zip(row, firsts, ends, strict=True))
        )


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where stages end, what they take, micro-batches they have room for; empty: nothing fits."""

    ends: tuple[int, ...]
    times: tuple[StageTimes, ...]
    most: int


def best_candidates(space: TrainingSpace) -> list[tuple[Candidate, float]]:
    """Plans and the seconds of their steps, played pass by pass, the shortest first."""
    # Of layouts that differ in nothing but which device of a kind stands where, one is enough.
    unlike: dict[object, tuple[Candidate, float]] = {}
    for found in _scored(space):
        kept = unlike.setdefault(_makeup(found[0]), found)
        if found[1] < kept[1]:
            unlike[_makeup(found[0])] = found
    closest = heapq.nsmallest(PLAYED, unlike.values(), key=lambda pair: pair[1])
    played = [
        (candidate, seconds)
        for candidate, _ in closest
        if (seconds := step_seconds(space, candidate)) is not None
    ]
    return sorted(played, key=lambda pair: pair[1])


def _makeup(candidate: Candidate) -> object:
    rows = sorted(tuple(device.type.name for device in row) for row in candidate.layout)
    return tuple(rows), candidate.micro_batch, candidate.order


def step_seconds(space: TrainingSpace, candidate: Candidate) -> float | None:
    """Seconds of one step, played pass by pass; None where devices do not reach each other."""
    adding = space.adding_up_seconds(candidate.layout, candidate.ends)
    if adding is None:
        return None
    longest = 0.0
    rows = zip(candidate.layout, candidate.ends, candidate.shares, strict=True)
    for row, ends, share in rows:
        took = space.played(row, ends, share, candidate.micro_batch, candidate.order)
        if took is None:
            return None
        longest = max(longest, took)
    return longest + adding


def micro_batches(job: TrainingJob, num_devices: int) -> Iterator[int]:
    """Sizes of micro-batches worth a try: divisors of a step; of many devices powers of two."""
    for size in range(1, min(job.sequences_per_step, MOST_SEQUENCES) + 1):
        is_power = size & (size - 1) == 0
        if job.sequences_per_step % size == 0 and (is_power or num_devices <= FEW):
            yield size


def _scored(space: TrainingSpace) -> Iterator[tuple[Candidate, float]]:
    for layout in layouts_of(space.inventory.devices):
        if max(len(row) for row in layout) > len(space.shape.layers):
            continue
        for micro_batch in micro_batches(space.job, len(space.inventory.devices)):
            for order in ORDERS:
                found = balanced(space, layout, micro_batch, order)
                if found is not None:
                    yield found


def balanced(
    space: TrainingSpace, layout: Layout, micro_batch: int, order: Order
) -> tuple[Candidate, float] | None:
    """Balance layers and micro-batches of a layout; the closed form of its step."""
    total = space.job.sequences_per_step // micro_batch
    if total < len(layout):
        return None
    shares: tuple[int, ...] | None = (max(1, total // len(layout)),) * len(layout)
    best: tuple[Candidate, float] | None = None
    for _ in range(ROUNDS):
        assert shares is not None  # a round that found none ended this
        cuts = [
            space.cut(row, micro_batch, share, order)
            for row, share in zip(layout, shares, strict=True)
        ]
        if not all(cut.times for cut in cuts):
            return best
        limits = [cut.most for cut in cuts]
        shares = least_maximum([_time_of(cut) for cut in cuts], total, limits)
        if shares is None:
            return best
        ends = tuple(cut.ends for cut in cuts)
        adding = space.adding_up_seconds(layout, ends)
        if adding is None:
            return best
        longest = max(_time_of(cut)(share) for cut, share in zip(cuts, shares, strict=True))
        if best is None or longest + adding < best[1]:
            best = (Candidate(layout, ends, shares, micro_batch, order), longest + adding)
    return best


def _time_of(cut: _Cut) -> Callable[[int], float]:
    return lambda count: estimated_seconds(cut.times, count)


def _largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest count up to `most` that holds, where smaller ones hold too; 0 for none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
