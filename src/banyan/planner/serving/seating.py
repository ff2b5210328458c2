"""From pipelines by kind to devices by name. Pure.

Groups of several devices are seated first, the largest first, each on the host with the least room
that has enough; sizes are powers of two, so no room is lost. Single devices follow where their
pipeline is already.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from banyan.planner.inventory import Inventory
from banyan.planner.serving.groups import Group
from banyan.planner.serving.kinds import Kind, zones_of


@dataclass(frozen=True, slots=True)
class Seat:
    """The devices of one group: its own, and its helpers."""

    group: Group
    devices: tuple[str, ...]
    helpers: tuple[str, ...]
    host: str


@dataclass(slots=True)
class _Room:
    """Devices that are still free: zone -> host -> type -> names, in order."""

    zones: dict[int, dict[str, dict[str, list[str]]]] = field(default_factory=dict)

    def free(self, zone: int, host: str, kind: str) -> int:
        return len(self.zones[zone][host].get(kind, ()))

    def take(self, zone: int, host: str, kind: str, count: int) -> tuple[str, ...]:
        names = self.zones[zone][host][kind]
        taken = tuple(names[:count])
        del names[:count]
        return taken


def seat(pipelines: Sequence[Sequence[Kind]], inventory: Inventory) -> list[list[Seat]] | None:
    """Give each group of each pipeline devices.

    Returns:
        Seats in the order of the groups; None where hosts have no room for a group as a whole.
    """
    zones, room = zones_of(inventory), _Room()
    for device in inventory.devices:
        hosts = room.zones.setdefault(zones[device.host], {})
        hosts.setdefault(device.host, {}).setdefault(device.type.name, []).append(device.name)
    seats: dict[tuple[int, int], Seat] = {}
    used: list[set[str]] = [set() for _ in pipelines]
    order = [
        (-kind.group.size, -kind.group.helper_size, number, place)
        for number, pipeline in enumerate(pipelines)
        for place, kind in enumerate(pipeline)
    ]
    for _, _, number, place in sorted(order):
        found = _seat(pipelines[number][place], room, used[number])
        if found is None:
            return None
        seats[number, place] = found
        used[number].add(found.host)
    return [
        [seats[number, place] for place in range(len(pipeline))]
        for number, pipeline in enumerate(pipelines)
    ]


def _seat(kind: Kind, room: _Room, used: set[str]) -> Seat | None:
    group, zone = kind.group, kind.zone
    helper = group.helper.name if group.helper else ""

    def fits(host: str) -> bool:
        return room.free(zone, host, group.type.name) >= group.size

    def helps(host: str) -> bool:
        return not helper or room.free(zone, host, helper) >= group.helper_size

    def order(host: str) -> tuple[bool, bool, int]:
        return not helps(host), host not in used, room.free(zone, host, group.type.name)

    host = min(filter(fits, room.zones[zone]), key=order, default=None)
    if host is None:
        return None
    devices = room.take(zone, host, group.type.name, group.size)
    helpers: tuple[str, ...] = ()
    if helper:
        places = sorted(room.zones[zone], key=lambda each: (each != host, each not in used))
        for each in places:
            count = min(room.free(zone, each, helper), group.helper_size - len(helpers))
            if count:
                helpers += room.take(zone, each, helper, count)
        if len(helpers) < group.helper_size:
            return None
    return Seat(group, devices, helpers, host)
