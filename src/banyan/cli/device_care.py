"""What `banyan serve` needs to plan anew: the inventory, the model's shape, where devices are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from banyan.cli.plan_inputs import read_devices, read_shape
from banyan.engine.options import EngineOptions
from banyan.engine.process.ahead import compile_ahead
from banyan.engine.process.device_care import DeviceCare
from banyan.engine.process.pace_watch import PaceWatch
from banyan.engine.stages.addresses import addresses_of
from banyan.engine.stages.placement import stages_to_run
from banyan.engine.starting.reaching import reach_by
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings
from banyan.planner.goal_text import read_goal, read_workload
from banyan.planner.plan import Plan
from banyan.planner.plan_file import parse_plan
from banyan.planner.report import PlanningChoices
from banyan.planner.serving.placed import Task
from banyan.planner.serving.replanning import (
    FleetCondition,
    expected_gain,
    expected_seconds,
    replan,
)

_DTYPES = {"fp8": "float8"}
_PLAIN = PlanningChoices(
    most_replicas=1,
    max_tensor_parallel=1,
    prefill_apart=False,
    attention_apart=False,
    experts_apart=False,
)
"""What one engine carries out whatever the devices are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CareOptions:
    """How devices that come and go are planned for.

    Attributes:
        inventory: file with devices and links.
        workload: what a usual request is, as `banyan plan` takes it.
        rebalance: move layers off a device that takes longer than it should.
        allow_drain: whether `POST /v1/admin/devices` takes devices out and lets them in again.
    """

    inventory: Path
    workload: str = "prompt=512,answer=128"
    rebalance: bool = False
    allow_drain: bool = False


@dataclass(frozen=True)
class InventoryPlanning:
    """Plans over an inventory; a `Planning`.

    Attributes:
        task: the model, devices and workload.
        usual: what the operator wants where nothing is wrong.
    """

    task: Task
    usual: Plan

    def plan(self, condition: FleetCondition) -> Plan:
        """See `Planning`."""
        problem = InputError("nothing was tried")
        for choices in self._choices:
            try:
                found = replan(replace(self.task, choices=choices), condition)
                stages_to_run(found)
            except InputError as error:
                problem = error
                continue
            # The engine works out a fingerprint of its own, from what it loads.
            return replace(found, model=self.usual.model, model_fingerprint="")
        raise problem

    def expected(self, plan: Plan) -> Mapping[str, float]:
        """See `Planning`."""
        return expected_seconds(self.task, plan)

    def gain(self, condition: FleetCondition, present: Plan, other: Plan) -> float:
        """See `Planning`."""
        return expected_gain(self.task, condition, present, other)

    @cached_property
    def _choices(self) -> tuple[PlanningChoices, ...]:
        """Kinds of plan, in the order in which they are tried: the usual one's, then plain ones."""
        stages = [stage for replica in self.usual.replicas for stage in replica.stages]
        alike = replace(
            _PLAIN,
            max_tensor_parallel=max(len(stage.devices) for stage in stages),
            attention_apart=any(stage.attention for stage in stages),
            experts_apart=any(stage.experts for stage in stages),
        )
        return tuple(dict.fromkeys((alike, _PLAIN)))


def open_care(
    model: str, engine: EngineOptions, care: CareOptions, settings: Settings
) -> DeviceCare:
    """Read what is needed to plan anew.

    Args:
        model: its directory.
        engine: with the plan that is served.
        care: the inventory and the workload.
        settings: of this process.

    Raises:
        InputError: a file cannot be used, or the plan names devices that the inventory lacks.
    """
    if engine.plan is None:
        raise InputError("plan_devices is given without a plan; give that too, or leave it out")
    plan = parse_plan(engine.plan)
    if len(plan.replicas) != 1:
        raise InputError(
            f"the plan has {len(plan.replicas)} replicas, and devices are planned anew for one; "
            "leave plan_devices out, or serve each replica from a plan of its own"
        )
    devices = read_devices(care.inventory, None, settings)
    inventory = devices.inventory
    for name in plan.replicas[0].all_devices:
        inventory.device(name)
    shape = read_shape(
        model,
        weights=_dtype(engine.quantization or engine.dtype),
        cache=_dtype(engine.kv_cache_dtype),
        settings=settings,
    )
    workload = read_workload(care.workload, read_goal(""))
    names = tuple(device.name for device in inventory.devices)
    addresses = addresses_of(names, engine.plan_workers)
    secret = None if engine.plan_secret is None else Path(engine.plan_secret)
    return DeviceCare(
        names,
        plan,
        engine.plan_workers,
        InventoryPlanning(Task(shape, inventory, workload, devices.costs, _PLAIN), plan),
        reach_by(addresses, secret),
        pace=PaceWatch() if care.rebalance else None,
        compile_ahead=compile_ahead,
    )


def _dtype(name: str) -> str:
    return _DTYPES.get(name, name)
