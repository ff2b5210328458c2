"""The plans that a person would draw by hand. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from banyan.planner.inventory import Inventory, PlannedDevice
from banyan.planner.plan import Replica, Stage
from banyan.planner.serving.candidates import (
    Candidate,
    candidate,
    devices_by_type,
    no_candidate,
)
from banyan.planner.serving.placed import Task


def natural_plans(task: Task) -> Iterator[Candidate]:
    """One device alone, a copy on each, even splits, tensors cut over a host."""
    by_type = devices_by_type(task.inventory.devices)
    num_layers = len(task.shape.layers)
    for name, devices in by_type.items():
        alone = Replica((Stage(0, num_layers, (devices[0].name,)),))
        yield candidate(f"one {name} alone", (alone,), task)
    yield _copies(by_type, task)
    if len(task.inventory.devices) > 1:
        yield _even("even split over all devices", task.inventory.devices, task)
    for name, devices in by_type.items():
        if 1 < len(devices) < len(task.inventory.devices):
            yield _even(f"even split over all {name}", devices, task)
        yield from _cut(name, devices, task)


def _copies(by_type: dict[str, list[PlannedDevice]], task: Task) -> Candidate:
    """A copy on each device that has room for one."""
    name, num_layers = "no split: a copy on each device", len(task.shape.layers)
    replicas, problems = list[Replica](), list[str]()
    for devices in by_type.values():
        copies = [Replica((Stage(0, num_layers, (each.name,)),)) for each in devices]
        tried = candidate(name, copies[:1], task)
        if tried.prediction is None:
            problems += tried.forecast.problems
        else:
            replicas += copies
    return candidate(name, replicas, task) if replicas else no_candidate(name, problems[0])


def _even(name: str, devices: Sequence[PlannedDevice], task: Task) -> Candidate:
    num_layers = len(task.shape.layers)
    if len(devices) > num_layers:
        return no_candidate(name, f"{num_layers} layers are fewer than {len(devices)} devices")
    ordered = by_host(devices)
    if not reach(ordered, task.inventory):
        return no_candidate(name, "not all of them reach each other")
    bounds = [round(i * num_layers / len(ordered)) for i in range(len(ordered) + 1)]
    stages = (
        Stage(first, end, (device.name,))
        for (first, end), device in zip(pairwise(bounds), ordered, strict=True)
    )
    return candidate(name, (Replica(tuple(stages)),), task)


def _cut(name: str, devices: Sequence[PlannedDevice], task: Task) -> Iterator[Candidate]:
    """Tensors cut over as many devices of a host as can be, a copy for each such group."""
    hosts: dict[str, list[str]] = {}
    for device in devices:
        hosts.setdefault(device.host, []).append(device.name)
    size = largest_cut(max(len(names) for names in hosts.values()), task)
    if size < 2:
        return
    replicas = [
        Replica((Stage(0, len(task.shape.layers), tuple(names[start : start + size])),))
        for names in hosts.values()
        for start in range(0, len(names) - size + 1, size)
    ]
    yield candidate(f"tensors cut over {size} x {name}, a copy for each", replicas, task)


def largest_cut(num_devices: int, task: Task) -> int:
    """Most devices, a power of two, that can cut the tensors of this model between them."""
    size = 1
    while size * 2 <= min(num_devices, task.choices.max_tensor_parallel) and can_cut(
        size * 2, task
    ):
        size *= 2
    return size


def can_cut(size: int, task: Task) -> bool:
    """Heads of keys and values are not cut: each device gets whole ones."""
    heads = {layer.num_kv_heads for layer in task.shape.layers if layer.num_kv_heads}
    return all(count % size == 0 for count in heads)


def by_host(devices: Iterable[PlannedDevice]) -> list[PlannedDevice]:
    """Devices of a host behind each other: fewer steps between hosts."""
    order: dict[str, list[PlannedDevice]] = {}
    for device in devices:
        order.setdefault(device.host, []).append(device)
    return [device for group in order.values() for device in group]


def reach(devices: Sequence[PlannedDevice], inventory: Inventory) -> bool:
    """Each reaches the next, and the last the first."""
    around = [*devices, devices[0]]
    return all(
        source.name == target.name or inventory.link(source, target) is not None
        for source, target in pairwise(around)
    )
