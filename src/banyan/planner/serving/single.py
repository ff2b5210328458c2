"""One pipeline over the fastest devices, for who wants one copy of a model. Pure."""

from collections.abc import Iterator

from banyan.planner.inventory import PlannedDevice
from banyan.planner.plan import Replica
from banyan.planner.serving.candidates import Candidate, candidate
from banyan.planner.serving.groups import Group
from banyan.planner.serving.natural import reach
from banyan.planner.serving.placed import Task
from banyan.planner.serving.seating import Seat
from banyan.planner.serving.solver import Tables, cut_stages

MOST_STAGES = 32


def single_pipelines(task: Task, tables: Tables) -> Iterator[Candidate]:
    """One pipeline over the two, three, ... fastest devices, layers cut by their speeds.

    Only where copies are limited: elsewhere the solver finds what is better. Devices that the cut
    does not need hold nothing.
    """
    if task.choices.most_replicas is None:
        return
    devices = sorted(task.inventory.devices, key=lambda each: -each.type.read_bytes_per_second)
    for count in range(1, min(len(devices), MOST_STAGES, len(task.shape.layers)) + 1):
        taken = devices[:count]
        if not reach(taken, task.inventory):
            continue
        # The fastest is last, where the head is.
        stages = cut_stages([_seat(each) for each in reversed(taken)], "both", tables)
        if stages is not None:
            yield candidate(f"one pipeline over {count}", (Replica(stages),), task)


def _seat(device: PlannedDevice) -> Seat:
    return Seat(Group(device.type), (device.name,), (), device.host)
