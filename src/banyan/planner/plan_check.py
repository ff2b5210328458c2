"""What is wrong with a plan: read by a person, edited by hand or made for other devices. Pure."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from banyan.foundation.errors import InputError
from banyan.planner.inventory import Inventory, PlannedDevice
from banyan.planner.model_shape import ModelShape
from banyan.planner.plan import Plan, Stage


def check_plan(plan: Plan, shape: ModelShape, inventory: Inventory) -> tuple[str, ...]:
    """Find every fault of a plan for a model on devices.

    Returns:
        One sentence for each fault, in the order of the plan; nothing where the plan can run.
    """
    return tuple((*_model_faults(plan, shape), *_replica_faults(plan, inventory)))


def require_plan(plan: Plan, shape: ModelShape, inventory: Inventory) -> None:
    """Refuse a plan that cannot run.

    Raises:
        InputError: names the first fault and how many there are.
    """
    faults = check_plan(plan, shape, inventory)
    if faults:
        more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        raise InputError(f"this plan cannot run: {faults[0]}{more}")


def _model_faults(plan: Plan, shape: ModelShape) -> Iterator[str]:
    if plan.num_layers != len(shape.layers):
        yield (
            f"it was made for {plan.num_layers} layers and {shape.name} has {len(shape.layers)}; "
            "plan again for this model"
        )
    elif plan.model_fingerprint != shape.fingerprint:
        yield (
            f"it was made for {plan.model} ({plan.model_fingerprint}) and this is {shape.name} "
            f"({shape.fingerprint}): shapes or dtypes differ; plan again for this model"
        )
    if not plan.replicas:
        yield "it has no replica; at least one is needed"


def _replica_faults(plan: Plan, inventory: Inventory) -> Iterator[str]:
    devices = {device.name: device for device in inventory.devices}
    users: Counter[str] = Counter()
    for number, replica in enumerate(plan.replicas):
        place = f"replica {number}"
        if replica.max_sequences < 0:
            yield f"{place} has max_sequences {replica.max_sequences}; 0 or more is needed"
        for what, stages in (("stages", replica.stages), ("prefill", replica.prefill)):
            if stages or what == "stages":
                yield from _cover_faults(stages, plan.num_layers, f"{place}, {what}")
            yield from _stage_faults(stages, devices, f"{place}, {what}")
            yield from _link_faults(stages, devices, inventory, f"{place}, {what}")
        users.update(replica.all_devices)
    for name, count in users.items():
        if count > 1:
            yield f"{count} replicas use device {name}; replicas share nothing"


def _cover_faults(stages: tuple[Stage, ...], num_layers: int, place: str) -> Iterator[str]:
    covered = 0
    for number, stage in enumerate(stages):
        here = f"{place} {number}"
        if stage.first_layer < 0 or stage.end_layer <= stage.first_layer:
            yield f"{here} has layers {stage.first_layer} to {stage.end_layer}: it holds none"
            continue
        if stage.first_layer > covered:
            yield f"{here} begins at layer {stage.first_layer}: layer {covered} is missing"
        elif stage.first_layer < covered:
            yield (
                f"{here} begins at layer {stage.first_layer}: layer {stage.first_layer} is in the "
                "stage before, too"
            )
        covered = stage.end_layer
    if covered < num_layers:
        yield f"{place}: layer {covered} of {num_layers} is missing"
    elif covered > num_layers:
        yield f"{place}: they end at layer {covered}, the model at {num_layers}"


def _stage_faults(
    stages: tuple[Stage, ...], devices: dict[str, PlannedDevice], place: str
) -> Iterator[str]:
    holders: Counter[str] = Counter()
    for number, stage in enumerate(stages):
        here = f"{place} {number}"
        if not stage.devices:
            yield f"{here} names no device"
        for names in (stage.devices, stage.attention, stage.experts):
            yield from _group_faults(names, devices, here)
        holders.update(set(stage.devices))
    for name, count in holders.items():
        if count > 1:
            yield f"{place}: device {name} has {count} stages; join them or name another device"


def _group_faults(
    names: tuple[str, ...], devices: dict[str, PlannedDevice], here: str
) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if name not in devices:
            known = ", ".join(list(devices)[:8]) or "none"
            yield f"{here} names device {name!r}, which is not there; there are {known}"
        if names.count(name) > 1:
            yield f"{here} names device {name} twice"
    vendors = sorted({devices[name].type.vendor for name in names if name in devices})
    if len(vendors) > 1:
        yield (
            f"{here} cuts its tensors between devices of {' and '.join(vendors)}; one vendor "
            "is needed inside a stage"
        )


def _link_faults(
    stages: tuple[Stage, ...],
    devices: dict[str, PlannedDevice],
    inventory: Inventory,
    place: str,
) -> Iterator[str]:
    known = [
        (number, devices[stage.devices[0]])
        for number, stage in enumerate(stages)
        if stage.devices and stage.devices[0] in devices
    ]
    for (number, source), (next_number, target) in pairwise(known):
        if source.name != target.name and inventory.link(source, target) is None:
            yield (
                f"{place} {number} and {next_number}: {source.name} and {target.name} do not "
                "reach each other; name a link between them or other devices"
            )
