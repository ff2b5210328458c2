"""Stages with their devices looked up, and whether they have room. Pure."""

from dataclasses import dataclass
from math import floor

from banyan.foundation.errors import InputError
from banyan.planner.costs import CostModel
from banyan.planner.inventory import Inventory, Link, PlannedDevice
from banyan.planner.model_shape import ModelShape
from banyan.planner.plan import Stage
from banyan.planner.report import PlanningChoices
from banyan.planner.serving.groups import Group, group_memory
from banyan.planner.serving.pace import MOST_SEQUENCES
from banyan.planner.serving.steps import Load
from banyan.planner.serving.wording import size_text
from banyan.planner.workload import Workload


@dataclass(frozen=True, slots=True)
class Task:
    """What a plan is judged by: everything but the plan."""

    shape: ModelShape
    inventory: Inventory
    workload: Workload
    costs: CostModel
    choices: PlanningChoices

    @property
    def load(self) -> Load:
        """Its steps."""
        return Load(self.workload, self.choices.prefill_chunk)


@dataclass(frozen=True, slots=True)
class PlacedStage:
    """A stage with its devices looked up."""

    group: Group
    layers: tuple[int, int]
    stage: Stage
    limits: tuple[float, float]


def place_stage(stage: Stage, task: Task) -> PlacedStage:
    """Look up the devices of a stage; the slowest of them sets its pace.

    Raises:
        InputError: one is not there, or two do not reach each other.
    """
    inventory, share = task.inventory, task.choices.memory_share
    devices = [inventory.device(name) for name in stage.devices]
    names = stage.attention or stage.experts
    helpers = [inventory.device(name) for name in names]
    slowest = min(devices, key=lambda d: d.type.read_bytes_per_second).type
    helper = min((d.type for d in helpers), key=lambda t: t.read_bytes_per_second, default=None)
    group = Group(
        type=slowest,
        size=len(devices),
        inner=slowest_link(devices, devices, inventory),
        helper=helper,
        helper_size=len(helpers),
        helper_work="attention" if stage.attention else "experts" if stage.experts else None,
        outer=slowest_link(devices, helpers, inventory),
    )
    limits = (
        min(device.type.memory_bytes for device in devices) * share,
        min((device.type.memory_bytes for device in helpers), default=0) * share,
    )
    return PlacedStage(group, (stage.first_layer, stage.end_layer), stage, limits)


def slowest_link(
    sources: list[PlannedDevice], targets: list[PlannedDevice], inventory: Inventory
) -> Link | None:
    """The slowest link between two sets of devices; None where there is none to be passed.

    Raises:
        InputError: two of them do not reach each other.
    """
    worst: Link | None = None
    for source in sources:
        for target in targets:
            if source.name == target.name:
                continue
            link = inventory.link(source, target)
            if link is None:
                raise InputError(
                    f"{source.name} and {target.name} share a stage and do not reach each other; "
                    "name a link between them or other devices"
                )
            if worst is None or link.transfer_seconds(1e6) > worst.transfer_seconds(1e6):
                worst = link
    return worst


def links_between(stages: tuple[PlacedStage, ...], inventory: Inventory) -> list[Link | None] | str:
    """What lies behind each stage: the last hands its tokens back to the first.

    Returns:
        A link for each stage, None where the next one is on the same device; or, in words, which
        two devices do not reach each other.
    """
    links: list[Link | None] = []
    for number, each in enumerate(stages):
        source = inventory.device(each.stage.devices[0])
        target = inventory.device(stages[(number + 1) % len(stages)].stage.devices[0])
        if source.name == target.name:
            links.append(None)
            continue
        link = inventory.link(source, target)
        if link is None:
            return f"{source.name} and {target.name} do not reach each other"
        links.append(link)
    return links


def most_sequences(stages: tuple[PlacedStage, ...], task: Task) -> tuple[int, str | None]:
    """Sequences that memory has room for, or what is missing for a single one."""
    load, most, short = task.load, MOST_SEQUENCES * len(stages), list[tuple[float, str]]()
    for each in stages:
        one = group_memory(task.costs, task.shape, each.group, each.layers, load.cached_tokens(1))
        two = group_memory(task.costs, task.shape, each.group, each.layers, load.cached_tokens(2))
        names = (each.stage.devices, each.stage.attention or each.stage.experts)
        for first, second, limit, devices in zip(one, two, each.limits, names, strict=True):
            if first > limit:
                short.append((first - limit, devices[0]))
            elif second > first:
                most = min(most, 1 + floor((limit - first) / (second - first)))
    if short:
        missing, device = max(short)
        more = f", and {len(short) - 1} more are too small" if len(short) > 1 else ""
        return 0, f"{size_text(missing)} short on {device}{more}"
    return most, None


def prompt_memory(stages: tuple[PlacedStage, ...], task: Task) -> str | None:
    """What is missing for the stages that compute a prompt; None where it has room."""
    for each in stages:
        held = group_memory(
            task.costs, task.shape, each.group, each.layers, task.load.whole_context
        )
        names = (each.stage.devices, each.stage.attention or each.stage.experts)
        for needed, limit, devices in zip(held, each.limits, names, strict=True):
            if needed > limit:
                return f"{size_text(needed - limit)} short on {devices[0]}"
    return None
