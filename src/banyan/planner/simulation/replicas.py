"""From a plan to what the simulator runs: limits and times, shared by replicas that are alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from banyan.foundation.errors import InputError
from banyan.planner.costs import CostModel
from banyan.planner.inventory import Inventory
from banyan.planner.model_shape import ModelShape
from banyan.planner.plan import Plan, Replica, Stage, pipeline_depth
from banyan.planner.simulation.engine import SimulatedEngine
from banyan.planner.simulation.pipelined_engine import PipelinedEngine
from banyan.planner.simulation.places import Places
from banyan.planner.simulation.requests import EngineLimits, Requests
from banyan.planner.simulation.stage_costs import BLOCK_TOKENS, Devices, RoundTime, StageCosts
from banyan.planner.simulation.step_times import TabledTimes

Engine: TypeAlias = SimulatedEngine | PipelinedEngine
_Key: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePolicy:
    """How every replica's engine is set up.

    Attributes:
        token_budget: most tokens of a step.
        max_running: most sequences at once, where the plan says nothing.
        num_in_flight: steps under way at once; 0 takes as many as keep all places of a replica
            busy, as the engine does.
        memory_share: of a device's memory that weights and cache may take, as planning assumes;
            programs and activations live in the rest.
    """

    token_budget: int = 1024
    max_running: int = 64
    num_in_flight: int = 0
    memory_share: float = 0.92

    def __post_init__(self) -> None:
        if not 1 <= self.max_running <= self.token_budget:
            raise InputError(
                f"{self.max_running} sequences at once do not fit into steps of "
                f"{self.token_budget} tokens; give at least 1 and no more than tokens"
            )


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain of stages with an engine.

    Attributes:
        limits: of the engine.
        times: of its steps.
        costs: of its stages.
    """

    limits: EngineLimits
    times: TabledTimes
    costs: StageCosts

    def tokens_per_second(self, context: int) -> float:
        """Answers with all places taken, at a context."""
        blocks = -(-context // BLOCK_TOKENS)
        count = max(1, min(self.limits.max_running, self.limits.num_blocks // blocks))
        num_steps = min(count, self.limits.num_in_flight)
        each = -(-count // num_steps)
        times = self.times if num_steps == 1 else self.times.together
        line = times.decode(each, each * context)
        step = RoundTime(line.fixed + line.slope * each * context, line.busy)
        busiest = max(Places(self.costs.place_of_part).journey(step, step).together)
        return count / max(step.seconds, num_steps * busiest)

    def engine(self, requests: Requests, *, bin_seconds: float) -> Engine:
        """An engine that runs such a chain."""
        if self.limits.num_in_flight == 1:
            return SimulatedEngine(self.limits, self.times, requests, bin_seconds=bin_seconds)
        return PipelinedEngine(
            self.limits,
            self.times,
            requests,
            self.costs.place_of_part,
            bin_seconds=bin_seconds,
        )


class Chains:
    """Makes the chains of a plan's replicas, each kind once.

    Args:
        model: what the plan is for.
        inventory: of its devices.
        costs: predicts parts of steps.
        policy: of the engines.
        together: predicts parts while others of the replica compute, too; None: as alone.
    """

    def __init__(
        self,
        model: ModelShape,
        inventory: Inventory,
        costs: CostModel,
        policy: EnginePolicy,
        *,
        together: CostModel | None = None,
    ) -> None:
        self.devices = Devices(inventory)
        self._model = model
        self._costs = costs
        self._together = together
        self._policy = policy
        self._found: dict[_Key, Chain] = {}
        self._linked = {name for pair in inventory.links for name in pair}

    def answering(self, replica: Replica, slowness: Mapping[str, float]) -> Chain:
        """The stages that compute answers."""
        most = replica.max_sequences or self._policy.max_running
        return self._chain(replica.stages, min(most, self._policy.token_budget), slowness)

    def prompting(self, replica: Replica, slowness: Mapping[str, float]) -> Chain | None:
        """The stages that compute prompts, where these are others."""
        if not replica.prefill:
            return None
        return self._chain(replica.prefill, self._policy.max_running, slowness)

    def _chain(
        self, stages: Sequence[Stage], max_running: int, slowness: Mapping[str, float]
    ) -> Chain:
        key = (max_running, *self._key(stages, slowness))
        found = self._found.get(key)
        if found is None:
            costs = self._stage_costs(stages, slowness, self._costs)
            num_blocks = costs.num_blocks(self._policy.memory_share)
            if num_blocks < 1:
                raise InputError(
                    f"the stages on {stages[0].devices[0]!r} and after leave no room for a KV "
                    f"cache of even {BLOCK_TOKENS} tokens; give them fewer layers, or more devices"
                )
            num_in_flight = self._policy.num_in_flight or pipeline_depth(stages)
            limits = EngineLimits(num_blocks, self._policy.token_budget, max_running, num_in_flight)
            together = None
            if self._together is not None and num_in_flight > 1:
                beside = self._stage_costs(stages, slowness, self._together)
                together = TabledTimes(beside.round)
            found = Chain(limits, TabledTimes(costs.round, together), costs)
            self._found[key] = found
        return found

    def _stage_costs(
        self, stages: Sequence[Stage], slowness: Mapping[str, float], costs: CostModel
    ) -> StageCosts:
        return StageCosts(self._model, stages, self.devices, costs, slowness=slowness)

    def _key(self, stages: Sequence[Stage], slowness: Mapping[str, float]) -> _Key:
        """Equal for chains that cost the same, whatever their devices are called."""
        names = list(dict.fromkeys(name for stage in stages for name in stage.all_devices))
        place = {name: number for number, name in enumerate(names)}
        devices = [self.devices.device(name) for name in names]
        hosts = list(dict.fromkeys(device.host for device in devices))
        ranges = tuple(
            (
                stage.first_layer,
                stage.end_layer,
                *(
                    tuple(place[name] for name in group)
                    for group in (stage.devices, stage.attention, stage.experts)
                ),
            )
            for stage in stages
        )
        kinds = tuple(
            (device.type.name, device.type.memory_bytes, hosts.index(device.host))
            for device in devices
        )
        slow = tuple(slowness.get(name, 1.0) for name in names)
        # Links that somebody named hold for these names only.
        own = tuple(n if n in self._linked else None for n in (*names, *hosts))
        return (ranges, kinds, slow, own)


def check_devices(plan: Plan, devices: Devices) -> dict[str, int]:
    """Which replica every device of a plan belongs to.

    Raises:
        InputError: a device is in two replicas, or not in the inventory.
    """
    found: dict[str, int] = {}
    for index, replica in enumerate(plan.replicas):
        for name in replica.all_devices:
            devices.device(name)
            if found.setdefault(name, index) != index:
                raise InputError(
                    f"device {name!r} is in replicas {found[name]} and {index} of the plan; "
                    "give every replica devices of its own"
                )
    return found
