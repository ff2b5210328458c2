"""Plans in which no pipeline leaves its host: each sort of host is solved once. Pure."""

from collections import Counter
from dataclasses import replace

from banyan.planner.inventory import PlannedDevice
from banyan.planner.plan import Replica, Stage
from banyan.planner.serving.candidates import Candidate, candidate, no_candidate
from banyan.planner.serving.kinds import zones_of
from banyan.planner.serving.placed import Task
from banyan.planner.serving.solver import Scope, Tables, solve

NAME = "no pipeline over two hosts"


def solve_everything(task: Task, tables: Tables) -> list[Candidate]:
    """The best of all that the choices allow, over hosts and within them."""
    zones = zones_of(task.inventory)
    if len(zones) == 1:
        return [solve(Scope("the best of everything", thorough=True), tables)]
    within = solve_hosts(task)
    if len(set(zones.values())) == len(zones):
        return [within]
    return [solve(Scope("the best of everything", thorough=True), tables), within]


def solve_hosts(task: Task) -> Candidate:
    """Solve one host of each sort, and do the same on all that are like it."""
    hosts: dict[str, list[PlannedDevice]] = {}
    for device in task.inventory.devices:
        hosts.setdefault(device.host, []).append(device)
    named = {name for pair in task.inventory.links for name in pair}
    alike: dict[object, list[list[PlannedDevice]]] = {}
    for host, devices in hosts.items():
        sort = tuple(sorted(Counter(device.type.name for device in devices).items()))
        # Links of their own make hosts different.
        is_named = host in named or any(device.name in named for device in devices)
        alike.setdefault((sort, host if is_named else ""), []).append(devices)
    replicas, problems, bound = list[Replica](), list[str](), 0.0
    workload = replace(task.workload, requests_per_second=None)
    for group in alike.values():
        inventory = replace(task.inventory, devices=tuple(group[0]))
        part = replace(task, inventory=inventory, workload=workload)
        found = solve(Scope(NAME), Tables(part))
        bound += len(group) * (found.upper_bound or 0.0)
        if found.plan is None or found.prediction is None:
            problems += found.forecast.problems
            continue
        for devices in group:
            names = _names(group[0], devices)
            replicas += [_renamed(replica, names) for replica in found.plan.replicas]
    if not replicas:
        return no_candidate(NAME, problems[0] if problems else "there are no hosts")
    return replace(candidate(NAME, replicas, task), upper_bound=bound)


def _names(one: list[PlannedDevice], other: list[PlannedDevice]) -> dict[str, str]:
    """Device of a host -> the device in its place on another host."""
    order = [sorted(devices, key=lambda device: device.type.name) for devices in (one, other)]
    return {a.name: b.name for a, b in zip(*order, strict=True)}


def _renamed(replica: Replica, names: dict[str, str]) -> Replica:
    def stage(old: Stage) -> Stage:
        devices, attention, experts = (
            tuple(names[name] for name in part)
            for part in (old.devices, old.attention, old.experts)
        )
        return replace(old, devices=devices, attention=attention, experts=experts)

    return replace(
        replica,
        stages=tuple(stage(each) for each in replica.stages),
        prefill=tuple(stage(each) for each in replica.prefill),
    )
