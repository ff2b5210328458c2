"""Tries every training plan of a small instance: all devices, orders, cuts, shares, sizes."""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise, permutations, product

from banyan.planner.inventory import PlannedDevice
from banyan.planner.training.job import ORDERS
from banyan.planner.training.order import num_in_flight, pipeline_seconds
from banyan.planner.training.search import TrainingSpace

Row = tuple[PlannedDevice, ...]


def shortest_step(space: TrainingSpace) -> float | None:
    """Seconds of the best plan there is, by trying all; None where none fits."""
    rows = [
        row
        for size in range(1, len(space.inventory.devices) + 1)
        for row in permutations(space.inventory.devices, size)
        if size <= len(space.shape.layers)
    ]
    best: float | None = None
    total = space.job.sequences_per_step
    for micro_batch in (size for size in range(1, total + 1) if total % size == 0):
        played = _Played(space, micro_batch)
        for layout in _disjoint(rows):
            for shares in _compositions(total // micro_batch, len(layout)):
                seconds = _best_of(space, played, layout, shares)
                if seconds is not None and (best is None or seconds < best):
                    best = seconds
    return best


class _Played:
    """Seconds of every cut of a row of devices, each computed once."""

    def __init__(self, space: TrainingSpace, micro_batch: int) -> None:
        self._space = space
        self._size = micro_batch
        self._known: dict[tuple[tuple[str, ...], int], list[tuple[tuple[int, ...], float]]] = {}

    def cuts(self, row: Row, share: int) -> list[tuple[tuple[int, ...], float]]:
        key = (tuple(device.name for device in row), share)
        if key not in self._known:
            self._known[key] = list(self._cuts(row, share))
        return self._known[key]

    def _cuts(self, row: Row, share: int) -> Iterator[tuple[tuple[int, ...], float]]:
        num_layers = len(self._space.shape.layers)
        for inner in combinations(range(1, num_layers), len(row) - 1):
            ends = (*inner, num_layers)
            times = self._space.times(row, ends, self._size)
            orders = [
                order
                for order in ORDERS
                if all(
                    self._space.layers(device, self._size).bytes_held(
                        first, end, num_in_flight(place, len(row), share, order)
                    )
                    <= device.type.memory_bytes
                    for place, (device, first, end) in enumerate(
                        zip(row, (0, *ends[:-1]), ends, strict=True)
                    )
                )
            ]
            if times is not None and orders:
                yield ends, min(pipeline_seconds(times, share, order) for order in orders)


def _best_of(
    space: TrainingSpace, played: _Played, layout: Sequence[Row], shares: Sequence[int]
) -> float | None:
    best: float | None = None
    choices = [played.cuts(row, share) for row, share in zip(layout, shares, strict=True)]
    for chosen in product(*choices):
        adding = space.adding_up_seconds(tuple(layout), [ends for ends, _ in chosen])
        if adding is not None:
            seconds = max(time for _, time in chosen) + adding
            best = seconds if best is None else min(best, seconds)
    return best


def _disjoint(rows: Sequence[Row]) -> Iterator[tuple[Row, ...]]:
    """Sets of rows that share no device."""
    for place, row in enumerate(rows):
        yield (row,)
        used = {device.name for device in row}
        rest = [other for other in rows[place + 1 :] if used.isdisjoint(d.name for d in other)]
        for more in _disjoint(rest):
            yield (row, *more)


def _compositions(total: int, count: int) -> Iterator[tuple[int, ...]]:
    for bars in combinations(range(1, total), count - 1):
        edges = (0, *bars, total)
        yield tuple(end - start for start, end in pairwise(edges))
