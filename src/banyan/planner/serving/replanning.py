"""A model on what is left: devices that are gone, or slower than they were. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from banyan.foundation.errors import InputError
from banyan.planner.costs import CostModel, Part, StepShape
from banyan.planner.inventory import DeviceType, PlannedDevice
from banyan.planner.model_shape import ModelShape
from banyan.planner.plan import Plan
from banyan.planner.serving.forecast import forecast
from banyan.planner.serving.placed import Task
from banyan.planner.serving.planning import plan_serving


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetCondition:
    """How the devices of an inventory are now.

    Attributes:
        missing: names of those that cannot be used.
        slowdowns: name -> how many times longer its steps take than predicted; 1 where left out.
    """

    missing: frozenset[str] = frozenset()
    slowdowns: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SlowedCost:
    """A cost model in which some types are slower than it knows.

    Attributes:
        known: predicts types as they should be.
        slowed: name of a slower type -> the type as it should be, and how many times longer.
    """

    known: CostModel
    slowed: Mapping[str, tuple[DeviceType, float]]

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        """See `CostModel`."""
        usual, factor = self.slowed.get(device.name, (device, 1.0))
        return factor * self.known.step_seconds(model, part, usual, step)

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        """See `CostModel`."""
        return self.known.weight_bytes(model, part)

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        """See `CostModel`."""
        return self.known.cache_bytes_per_token(model, part)


def replan(task: Task, condition: FleetCondition) -> Plan:
    """Find the best plan over what is left.

    Raises:
        InputError: nothing is left, or nothing fits; says what is missing.
    """
    if not [each for each in task.inventory.devices if each.name not in condition.missing]:
        raise InputError(
            f"no device is left: {', '.join(sorted(condition.missing))} cannot be used"
        )
    now = conditioned(task, condition)
    report = plan_serving(now.shape, now.inventory, now.workload, now.costs, choices=now.choices)
    if report.plan is None:
        without = ", ".join(sorted(condition.missing))
        raise InputError(f"{f'without {without}, ' if without else ''}{report.summary}")
    return report.plan


def expected_gain(task: Task, condition: FleetCondition, present: Plan, other: Plan) -> float:
    """How many times the tokens per second of one plan another gives, as the devices are now.

    Infinite where the present plan cannot run any more.
    """
    now = conditioned(task, condition)
    rates = []
    for plan in (present, other):
        # Sequences at once were chosen for devices as they should be.
        replicas = tuple(replace(replica, max_sequences=0) for replica in plan.replicas)
        try:
            prediction = forecast(replace(plan, replicas=replicas), now).prediction
        except InputError:
            prediction = None
        rates.append(0.0 if prediction is None else prediction.tokens_per_second)
    return rates[1] / rates[0] if rates[0] else float("inf")


def expected_seconds(task: Task, plan: Plan) -> dict[str, float]:
    """What each device of a plan should compute for one step, in seconds; only shares count.

    Raises:
        InputError: the plan names a device that is not there.
    """
    found: dict[str, float] = {}
    for stage in forecast(plan, task).stages:
        for names, seconds in (
            (stage.devices, stage.seconds),
            (stage.helpers, stage.helper_seconds),
        ):
            for name in names:
                found[name] = found.get(name, 0.0) + seconds
    return found


def conditioned(task: Task, condition: FleetCondition) -> Task:
    """The same task over the devices as they are now."""
    slowed: dict[str, tuple[DeviceType, float]] = {}
    devices, prices = list[PlannedDevice](), dict(task.inventory.price_per_hour)
    for device in task.inventory.devices:
        factor = condition.slowdowns.get(device.name, 1.0)
        if device.name in condition.missing:
            continue
        if factor == 1.0:
            devices.append(device)
            continue
        changed, usual = _slower(device, factor), device.type
        devices.append(changed)
        slowed[changed.type.name] = usual, factor
        if usual.name in prices:
            prices[changed.type.name] = prices[usual.name]
    inventory = replace(task.inventory, devices=tuple(devices), price_per_hour=prices)
    costs = SlowedCost(task.costs, slowed) if slowed else task.costs
    return replace(task, inventory=inventory, costs=costs)


def _slower(device: PlannedDevice, factor: float) -> PlannedDevice:
    usual = device.type
    # Types are told apart by their names; a device may be slow alone among its like.
    slow = replace(
        usual,
        name=f"{usual.name}, {factor:.3g} times slower",
        read_bytes_per_second=usual.read_bytes_per_second / factor,
        operations_per_second={
            dtype: rate / factor for dtype, rate in usual.operations_per_second.items()
        },
    )
    return replace(device, type=slow)
