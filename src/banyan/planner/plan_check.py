"""What is wrong with a plan: read by a person, edited by hand or made for other devices. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from banyan.foundation.errors import InputError
from banyan.planner.inventory import Inventory, PlannedDevice
from banyan.planner.model_shape import ModelShape
from banyan.planner.plan import Plan, Stage


def check_plan(plan: Plan, shape: ModelShape, inventory: Inventory) -> tuple[str, ...]:
    """Find every fault of a plan for a model on devices.

    Returns:
        One sentence for each fault; nothing where the plan can run.
    """
    return (*check_form(plan, shape), *_inventory_faults(plan, inventory))


def check_form(plan: Plan, shape: ModelShape) -> tuple[str, ...]:
    """Find the faults of a plan for a model that show without knowing any device."""
    return tuple(
        (*_model_faults(plan, shape), *_replica_faults(plan, shape), *_shared_devices(plan))
    )


def require_plan(plan: Plan, shape: ModelShape, inventory: Inventory) -> None:
    """Refuse a plan that cannot run on devices.

    Raises:
        InputError: names the first fault and how many there are.
    """
    _refuse(check_plan(plan, shape, inventory))


def require_form(plan: Plan, shape: ModelShape) -> None:
    """Refuse a plan that can run nowhere.

    Raises:
        InputError: names the first fault and how many there are.
    """
    _refuse(check_form(plan, shape))


def require_own_devices(plan: Plan) -> None:
    """Refuse a plan whose replicas share a device.

    Raises:
        InputError: names the device.
    """
    _refuse(tuple(_shared_devices(plan)))


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        others = len(faults) - 1
        more = f" (and {others} more fault{'s' if others > 1 else ''})" if others else ""
        raise InputError(f"this plan cannot run: {faults[0]}{more}")


def _model_faults(plan: Plan, shape: ModelShape) -> Iterator[str]:
    # A plan that a person wrote may leave the fingerprint empty.
    if plan.num_layers != len(shape.layers):
        yield (
            f"it was made for {plan.num_layers} layers and {shape.name} has {len(shape.layers)}; "
            "plan again for this model"
        )
    elif plan.model_fingerprint not in ("", shape.fingerprint):
        yield (
            f"it was made for {plan.model} ({plan.model_fingerprint}) and this is {shape.name} "
            f"({shape.fingerprint}): shapes or dtypes differ; plan again for this model"
        )
    if not plan.replicas:
        yield "it has no replica; at least one is needed"


def _replica_faults(plan: Plan, shape: ModelShape) -> Iterator[str]:
    for place, stages in _rows_of_stages(plan):
        # Prompts may be computed where answers are.
        if stages or place.endswith("stage"):
            yield from _cover_faults(stages, plan.num_layers, place)
        for number, stage in enumerate(stages):
            yield from _form_faults(stage, shape, f"{place} {number}")
    for number, replica in enumerate(plan.replicas):
        if replica.max_sequences < 0:
            yield f"replica {number} has max_sequences {replica.max_sequences}; 0 or more is needed"


def _rows_of_stages(plan: Plan) -> Iterator[tuple[str, tuple[Stage, ...]]]:
    """Each row of stages, and what the file calls one of them."""
    for number, replica in enumerate(plan.replicas):
        yield f"replica {number}, stage", replica.stages
        yield f"replica {number}, prefill", replica.prefill


def _shared_devices(plan: Plan) -> Iterator[str]:
    users = Counter(name for replica in plan.replicas for name in replica.all_devices)
    for name, count in users.items():
        if count > 1:
            yield f"{count} replicas use device {name}; replicas share nothing"


def _inventory_faults(plan: Plan, inventory: Inventory) -> Iterator[str]:
    devices = {device.name: device for device in inventory.devices}
    for place, stages in _rows_of_stages(plan):
        yield from _stage_faults(stages, devices, place)
        yield from _link_faults(stages, devices, inventory, place)


def _form_faults(stage: Stage, shape: ModelShape, here: str) -> Iterator[str]:
    if not stage.devices:
        yield f"{here} names no device"
    for names in (stage.devices, stage.attention, stage.experts):
        if "" in names:
            yield f"{here} names a device without a name"
        yield from (
            f"{here} names device {name} twice" for name, n in Counter(names).items() if n > 1
        )
    layers = shape.layers[max(stage.first_layer, 0) : max(stage.end_layer, 0)]
    if stage.experts and layers and not any(layer.num_experts for layer in layers):
        yield f"{here} puts experts on {stage.experts[0]}, and its layers have none; leave it out"


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
        for names in (stage.devices, stage.attention, stage.experts):
            yield from _group_faults(names, devices, f"{place} {number}")
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
