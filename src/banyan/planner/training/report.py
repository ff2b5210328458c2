"""From a model, devices and a training job to the best plan, with reasons. Pure.

Beside the plan stand those a person would try: layers and batches shared evenly, in proportion to
speed (as Metis balances them, ATC 2024), and the quickest kind of device alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate

from banyan.foundation.byte_sizes import show_bytes
from banyan.planner.costs import CostModel
from banyan.planner.inventory import Inventory, PlannedDevice
from banyan.planner.model_shape import ModelShape
from banyan.planner.training.job import (
    Pipeline,
    TrainingAlternative,
    TrainingJob,
    TrainingPlan,
    TrainingReport,
    TrainingStage,
)
from banyan.planner.training.order import num_in_flight, pipeline_seconds
from banyan.planner.training.polishing import polished
from banyan.planner.training.search import (
    Candidate,
    TrainingSpace,
    best_candidates,
    step_seconds,
)
from banyan.planner.training.shares import largest_remainder

POLISHED = 8
"""Candidates that are improved by small changes."""


def plan_training(
    shape: ModelShape, inventory: Inventory, job: TrainingJob, costs: CostModel
) -> TrainingReport:
    """Find how a model is trained best.

    Args:
        shape: of the model.
        inventory: devices and links.
        job: one step of training.
        costs: predicts forward passes.

    Returns:
        The plan with its prediction and why others lost; or what is missing.
    """
    space = TrainingSpace(shape, inventory, job, costs)
    found = best_found(space)
    if found is None:
        return TrainingReport(None, _missing(space))
    plan = described(space, *found)
    lost = tuple(_alternatives(space, *found))
    return TrainingReport(plan, _summary(plan), lost)


def best_found(space: TrainingSpace) -> tuple[Candidate, float] | None:
    """The best plan and the seconds of its step; None where nothing fits."""
    nearest = best_candidates(space)[:POLISHED]
    better = [polished(space, candidate, seconds) for candidate, seconds in nearest]
    return min(better, key=lambda pair: pair[1], default=None)


def described(space: TrainingSpace, candidate: Candidate, seconds: float) -> TrainingPlan:
    """A candidate with names, times and memory of everything."""
    memory: dict[str, int] = {}
    pipelines = []
    for row, ends, share in zip(candidate.layout, candidate.ends, candidate.shares, strict=True):
        times = space.times(row, ends, candidate.micro_batch)
        assert times is not None  # a candidate was played, so its devices reach each other
        took = pipeline_seconds(times, share, candidate.order)
        stages = []
        for number, (device, first, end) in enumerate(zip(row, (0, *ends[:-1]), ends, strict=True)):
            stages.append(TrainingStage(first, end, device.name))
            held = num_in_flight(number, len(row), share, candidate.order)
            costs = space.layers(device, candidate.micro_batch)
            memory[device.name] = round(costs.bytes_held(first, end, held))
        busy = {
            device.name: share * time.busy / took for device, time in zip(row, times, strict=True)
        }
        pipelines.append(Pipeline(tuple(stages), share, took, busy))
    job = space.job
    return TrainingPlan(
        pipelines=tuple(pipelines),
        micro_batch=candidate.micro_batch,
        order=candidate.order,
        step_seconds=seconds,
        tokens_per_second=job.sequences_per_step * job.sequence_tokens / seconds,
        memory_bytes=memory,
    )


def _summary(plan: TrainingPlan) -> str:
    depths = sorted({len(pipeline.stages) for pipeline in plan.pipelines})
    depth = f"{depths[0]}" if len(depths) == 1 else f"{depths[0]} to {depths[-1]}"
    count = len(plan.pipelines)
    return (
        f"{plan.tokens_per_second:,.0f} tokens/s: {count} pipeline{'s' if count > 1 else ''} of "
        f"{depth} stage{'' if depth == '1' else 's'}, micro-batches of {plan.micro_batch}, order "
        f"{plan.order}"
    )


def _missing(space: TrainingSpace) -> str:
    """What is too much for all devices together, or for each."""
    devices = space.inventory.devices
    state = float(space.layers(devices[0], 1).state[-1])
    there = sum(device.type.memory_bytes for device in devices)
    name = space.shape.name
    if state > there:
        return (
            f"{name} cannot be trained here: weights, gradients and optimiser take "
            f"{show_bytes(state)} and all devices have {show_bytes(there)}; add devices, or keep "
            "fewer bytes for each weight"
        )
    return (
        f"{name} cannot be trained here: its {show_bytes(state)} of weights, gradients and "
        f"optimiser are less than the {show_bytes(there)} of all devices, but no cut of whole "
        "layers over devices that reach each other has room for activations, too; use shorter "
        "sequences, or recompute=yes"
    )


def _alternatives(
    space: TrainingSpace, candidate: Candidate, seconds: float
) -> Iterator[TrainingAlternative]:
    if sum(len(row) for row in candidate.layout) > 1:
        even = _shared_by(space, candidate, lambda _: 1.0)
        yield _judged(space, "the same devices, shared evenly", even, seconds)
        by_speed = _shared_by(space, candidate, lambda device: _speed(space, device))
        yield _judged(space, "the same devices, shared by speed", by_speed, seconds)
    quickest = max(space.inventory.devices, key=lambda device: _speed(space, device)).type.name
    chosen = tuple(one for one in space.inventory.devices if one.type.name == quickest)
    if len(chosen) < len(space.inventory.devices):
        alone = TrainingSpace(
            space.shape, replace(space.inventory, devices=chosen), space.job, space.costs
        )
        found = best_found(alone)
        other = None if found is None else found[0]
        yield _judged(space, f"{quickest} alone", other, seconds)


def _speed(space: TrainingSpace, device: PlannedDevice) -> float:
    return 1 / sum(space.layers(device, 1).seconds(0, len(space.shape.layers)))


def _shared_by(
    space: TrainingSpace, candidate: Candidate, weight: Callable[[PlannedDevice], float]
) -> Candidate | None:
    """The same layout with layers and micro-batches in proportion to weights of devices."""
    num_layers = len(space.shape.layers)
    ends = []
    for row in candidate.layout:
        layers = largest_remainder([weight(device) for device in row], num_layers)
        if 0 in layers:
            return None
        ends.append(tuple(accumulate(layers)))
    total = space.job.sequences_per_step // candidate.micro_batch
    weights = [sum(weight(device) for device in row) for row in candidate.layout]
    shares = largest_remainder(weights, total)
    return None if 0 in shares else replace(candidate, ends=tuple(ends), shares=shares)


def _judged(
    space: TrainingSpace, name: str, candidate: Candidate | None, best: float
) -> TrainingAlternative:
    if candidate is None:
        return TrainingAlternative(name, None, "no cut of whole layers has room")
    short = _shortest_of_memory(space, candidate)
    if short is not None:
        return TrainingAlternative(name, None, short)
    seconds = step_seconds(space, candidate)
    if seconds is None:
        return TrainingAlternative(name, None, "its devices do not reach each other")
    if seconds <= best * (1 + 1e-6):
        return TrainingAlternative(name, seconds, "the same step; nothing is lost")
    return TrainingAlternative(
        name, seconds, f"{seconds:.3g} s a step, {seconds / best:.2f} times the plan's"
    )


def _shortest_of_memory(space: TrainingSpace, candidate: Candidate) -> str | None:
    """How much is missing on the device that lacks most; None where everything fits."""
    missing = []
    for row, ends, share in zip(candidate.layout, candidate.ends, candidate.shares, strict=True):
        for number, (device, first, end) in enumerate(zip(row, (0, *ends[:-1]), ends, strict=True)):
            held = num_in_flight(number, len(row), share, candidate.order)
            needed = space.layers(device, candidate.micro_batch).bytes_held(first, end, held)
            missing.append((needed - device.type.memory_bytes, device.name))
    most, device_name = max(missing)
    return f"{show_bytes(most)} short on {device_name}" if most > 0 else None
