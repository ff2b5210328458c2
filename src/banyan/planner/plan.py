"""The plan: where every part of a model lives. One data structure for every way to split.

A stage is a run of layers on a device, or on several that cut its tensors between them. What is
named apart in a stage lives elsewhere: attention with its KV cache (the FastDecode split), experts
(the KTransformers split). A replica may compute prompts on other stages than answers. Replicas
share nothing. `banyan.planner.plan_file` reads and writes plans; `banyan.planner.plan_check` says
what is wrong with one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers `first_layer` up to, not including, `end_layer`, on one place.

    The stage with layer 0 also embeds tokens; the one with the last layer also has the head.

    Attributes:
        devices: names of devices; more than one cut the tensors of the stage between them.
        attention: devices that hold the KV cache and compute attention; empty: `devices` do.
        experts: devices that compute the experts; empty: `devices` do.
    """

    first_layer: int
    end_layer: int
    devices: tuple[str, ...]
    attention: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()

    @property
    def num_layers(self) -> int:
        """How many layers it has."""
        return self.end_layer - self.first_layer

    @property
    def all_devices(self) -> tuple[str, ...]:
        """Every device it names, each once."""
        return tuple(dict.fromkeys((*self.devices, *self.attention, *self.experts)))


@dataclass(frozen=True, slots=True)
class Replica:
    """One whole copy of a model.

    Attributes:
        stages: in the order of the layers; they compute answers, and prompts too unless
            `prefill` names others.
        prefill: stages that compute prompts; empty where `stages` do.
        max_sequences: most sequences that are answered at once; 0 leaves it to the engine.
    """

    stages: tuple[Stage, ...]
    prefill: tuple[Stage, ...] = ()
    max_sequences: int = 0

    @property
    def all_devices(self) -> tuple[str, ...]:
        """Every device it names, each once."""
        stages = (*self.stages, *self.prefill)
        return tuple(dict.fromkeys(name for stage in stages for name in stage.all_devices))


def pipeline_depth(stages: Sequence[Stage]) -> int:
    """How many steps can be under way at a time with every one at another place.

    So many are, unless somebody asks for another number: one for each group of stages that share
    no device; two where attention or experts are elsewhere.
    """
    groups: list[set[str]] = []
    for stage in stages:
        joined = set(stage.devices)
        for group in [g for g in groups if g & joined]:
            joined |= group
            groups.remove(group)
        groups.append(joined)
    is_apart = any({*stage.attention, *stage.experts} - set(stage.devices) for stage in stages)
    return max(len(groups), 2 if is_apart else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a plan is expected to do under its workload.

    Attributes:
        tokens_per_second: of answers, all replicas together.
        time_to_first_token: seconds, without waiting in line.
        time_per_output_token: seconds.
        memory_bytes: device -> bytes it holds, weights and cache.
        joules_per_token: of an answer; 0 where the power of a device is not known.
        cost_per_million_tokens: of answers, in the currency of the inventory; None without prices.
        upper_bound: proven: no plan of this inventory gives more tokens per second; None where
            nothing is proven.
    """

    tokens_per_second: float
    time_to_first_token: float
    time_per_output_token: float
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    joules_per_token: float = 0.0
    cost_per_million_tokens: float | None = None
    upper_bound: float | None = None

    @property
    def gap(self) -> float | None:
        """How far the proven bound lies above the plan, as a share of the plan."""
        if self.upper_bound is None:
            return None
        return self.upper_bound / self.tokens_per_second - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where a model lives.

    Attributes:
        model: what a person called it.
        model_fingerprint: of its shapes and dtypes (`ModelShape.fingerprint`); a plan holds for
            no other model.
        num_layers: of the model.
        replicas: copies; each serves requests of its own.
        prediction: what it should reach; None for a plan written by hand.
    """

    model: str
    model_fingerprint: str
    num_layers: int
    replicas: tuple[Replica, ...]
    prediction: Prediction | None = None
