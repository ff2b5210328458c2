"""Which devices could form which pipelines, in which order: what training plans choose from. Pure.

Few devices: every way to put some of them into ordered pipelines. Many: pipelines of equal make,
pipelines of one kind each, and each with the slower kinds left out; kinds stand in blocks, since a
hop between kinds costs more than one inside, in every order of the blocks.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations

from banyan.planner.inventory import PlannedDevice

Layout = tuple[tuple[PlannedDevice, ...], ...]
"""Pipelines; each names its devices in the order of its stages."""

FEW = 4
MOST_KINDS = 4
"""Orders of more kinds than this are not tried; they stand as the inventory lists them."""


def layouts_of(devices: Sequence[PlannedDevice]) -> Iterator[Layout]:
    """Every layout worth a try; those that differ in names only come once."""
    seen: set[tuple[tuple[tuple[str, str], ...], ...]] = set()
    found = _all_layouts(devices) if len(devices) <= FEW else _regular_layouts(devices)
    for layout in found:
        key = tuple(sorted(tuple((one.type.name, one.host) for one in row) for row in layout))
        if layout and key not in seen:
            seen.add(key)
            yield layout


def _all_layouts(devices: Sequence[PlannedDevice]) -> Iterator[Layout]:
    """Each device is left out, ends a pipeline of its own, or stands somewhere in another's."""
    if not devices:
        yield ()
        return
    first, rest = devices[0], devices[1:]
    for layout in _all_layouts(rest):
        yield layout
        yield ((first,), *layout)
        for number, row in enumerate(layout):
            for place in range(len(row) + 1):
                longer = (*row[:place], first, *row[place:])
                yield (*layout[:number], longer, *layout[number + 1 :])


def _regular_layouts(devices: Sequence[PlannedDevice]) -> Iterator[Layout]:
    kinds: dict[str, list[PlannedDevice]] = {}
    for device in devices:
        kinds.setdefault(device.type.name, []).append(device)
    quickest = sorted(
        kinds, key=lambda name: -max(kinds[name][0].type.operations_per_second.values())
    )
    for count in range(1, len(quickest) + 1):
        chosen = [kinds[name] for name in quickest[:count]]
        yield from _mixed(chosen)
        yield from _separate(chosen)


def _mixed(kinds: Sequence[Sequence[PlannedDevice]]) -> Iterator[Layout]:
    """Pipelines that each have the same number of every kind; what is left over goes along."""
    orders = permutations(kinds) if len(kinds) <= MOST_KINDS else iter((tuple(kinds),))
    for order in orders:
        for count in _counts(max(len(kind) for kind in kinds)):
            rows = [
                tuple(device for kind in order for device in _dealt(kind, number, count))
                for number in range(count)
            ]
            yield tuple(row for row in rows if row)


def _separate(kinds: Sequence[Sequence[PlannedDevice]]) -> Iterator[Layout]:
    """Pipelines of one kind each, of one depth, or of the depth that each kind needs."""
    for depth in _counts(max(len(kind) for kind in kinds)):
        rows = [
            tuple(kind[start : start + depth])
            for kind in kinds
            for start in range(0, len(kind) - depth + 1, depth)
        ]
        yield tuple(rows)


def _dealt(kind: Sequence[PlannedDevice], number: int, count: int) -> Sequence[PlannedDevice]:
    """The part of a kind that pipeline `number` of `count` gets: neighbours stay together."""
    return kind[len(kind) * number // count : len(kind) * (number + 1) // count]


def _counts(most: int) -> Iterator[int]:
    """Divisors and powers of two up to `most`."""
    for count in range(1, most + 1):
        if most % count == 0 or count & (count - 1) == 0:
            yield count
