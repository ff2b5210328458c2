"""Every kind of group that an inventory has: what a stage may be held by. Pure.

Devices of one type are alike. What tells them apart is where they stand: types are counted for each
zone, a set of hosts that reach each other, because a pipeline does not leave its zone.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banyan.planner.inventory import DeviceType, Inventory, Link
from banyan.planner.serving.groups import Group
from banyan.planner.serving.natural import can_cut
from banyan.planner.serving.placed import Task

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of group in a zone, and how many of them there can be."""

    group: Group
    zone: int
    limit: int


@dataclass(frozen=True, slots=True)
class Kinds:
    """All of them.

    Attributes:
        kinds: K of them.
        resources: (type, zone) of R sorts of device.
        uses: devices of each sort that a group of each kind takes (K, R).
        limits: devices of each sort (R).
    """

    kinds: tuple[Kind, ...]
    resources: tuple[tuple[str, int], ...]
    uses: Integers
    limits: Integers

    @property
    def group_limits(self) -> Integers:
        """Groups of each kind that hosts have room for (K)."""
        return np.array([kind.limit for kind in self.kinds], dtype=np.int64)

    def only(self, kept: list[int]) -> "Kinds":
        """Some of the kinds."""
        return Kinds(
            tuple(self.kinds[index] for index in kept),
            self.resources,
            self.uses[kept],
            self.limits,
        )


def zones_of(inventory: Inventory) -> dict[str, int]:
    """Host -> its zone: hosts that reach each other."""
    hosts = list(dict.fromkeys(device.host for device in inventory.devices))
    zone = {host: number for number, host in enumerate(hosts)}
    if inventory.between_hosts is not None:
        return dict.fromkeys(hosts, 0)
    host_of = {device.name: device.host for device in inventory.devices} | {h: h for h in hosts}
    for one, other in inventory.links:
        if one in host_of and other in host_of:
            old, new = zone[host_of[one]], zone[host_of[other]]
            zone = {host: new if number == old else number for host, number in zone.items()}
    return zone


def kinds_of(task: Task) -> Kinds:
    """Count the kinds of group of an inventory."""
    zones = zones_of(task.inventory)
    types = {device.type.name: device.type for device in task.inventory.devices}
    counts: dict[tuple[str, int], Counter[str]] = {}
    for device in task.inventory.devices:
        place = device.type.name, zones[device.host]
        counts.setdefault(place, Counter())[device.host] += 1
    resources = tuple(counts)
    kinds = list[Kind]()
    for name, zone in resources:
        kinds += _kinds_of_type(types[name], zone, counts, types, task)
    row = {resource: index for index, resource in enumerate(resources)}
    uses = np.zeros((len(kinds), len(resources)), dtype=np.int64)
    for index, kind in enumerate(kinds):
        uses[index, row[kind.group.type.name, kind.zone]] += kind.group.size
        if kind.group.helper is not None:
            uses[index, row[kind.group.helper.name, kind.zone]] += kind.group.helper_size
    limits = np.array([sum(hosts.values()) for hosts in counts.values()], dtype=np.int64)
    return Kinds(tuple(kinds), resources, uses, limits)


def _kinds_of_type(
    device: DeviceType,
    zone: int,
    counts: dict[tuple[str, int], Counter[str]],
    types: dict[str, DeviceType],
    task: Task,
) -> Iterator[Kind]:
    hosts = counts[device.name, zone]
    size = 1
    while size <= min(max(hosts.values()), task.choices.max_tensor_parallel):
        if can_cut(size, task):
            inner = task.inventory.within_host if size > 1 else None
            limit = sum(count // size for count in hosts.values())
            yield Kind(Group(device, size, inner), zone, limit)
            for (name, other_zone), helpers in counts.items():
                if other_zone == zone and types[name].kind == "cpu" and name != device.name:
                    yield from _helped(
                        Group(device, size, inner), types[name], helpers, hosts, zone, task
                    )
        size *= 2


def _helped(
    group: Group,
    helper: DeviceType,
    helpers: Counter[str],
    hosts: Counter[str],
    zone: int,
    task: Task,
) -> Iterator[Kind]:
    works: list[str] = []
    if task.choices.attention_apart:
        works.append("attention")
    if task.choices.experts_apart and any(layer.num_experts for layer in task.shape.layers):
        works.append("experts")
    local = [host for host in hosts if helpers[host] and hosts[host] >= group.size]
    most = max((helpers[host] for host in local), default=sum(helpers.values()))
    outer: Link | None = task.inventory.within_host if local else task.inventory.between_hosts
    if outer is None:
        return
    count = 1
    while count <= min(most, 8):
        limit = sum(hosts[host] // group.size for host in hosts)
        if local:
            limit = sum(min(hosts[host] // group.size, helpers[host] // count) for host in local)
        for work in works:
            yield Kind(
                Group(
                    group.type,
                    group.size,
                    group.inner,
                    helper,
                    count,
                    "attention" if work == "attention" else "experts",
                    outer,
                ),
                zone,
                limit,
            )
        count *= 2
