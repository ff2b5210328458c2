"""Groups of devices that hold one stage together, and what a stage costs on one. Pure.

A group is one device, several of one type on one host that cut tensors between them, or one of
these with CPUs that take attention with its cache, or the experts.
"""

from dataclasses import dataclass
from typing import Literal

from banyan.planner.costs import CostModel, Part, StepShape
from banyan.planner.inventory import DeviceType, Link
from banyan.planner.model_shape import ModelShape, bytes_per_number
from banyan.planner.serving.steps import Load, Phase

Work = Literal["all", "dense", "attention", "experts"]


@dataclass(frozen=True, slots=True)
class Group:
    """Devices of one stage.

    Attributes:
        type: of its devices; the slowest where they differ.
        size: how many cut the tensors.
        inner: what lies between them.
        helper: type of the devices that take a part off it; None: none do.
        helper_size: how many.
        helper_work: what they take.
        outer: what lies between the devices and their helpers.
    """

    type: DeviceType
    size: int = 1
    inner: Link | None = None
    helper: DeviceType | None = None
    helper_size: int = 0
    helper_work: Literal["attention", "experts"] | None = None
    outer: Link | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What tells groups of one inventory apart; types are not hashable."""
        helper = self.helper.name if self.helper else None
        return (
            self.type.name,
            self.size,
            self.inner,
            helper,
            self.helper_size,
            self.helper_work,
            self.outer,
        )

    @property
    def name(self) -> str:
        """What a person calls it: "4 x h200 + 2 x epyc (attention)"."""
        own = self.type.name if self.size == 1 else f"{self.size} x {self.type.name}"
        if self.helper is None:
            return own
        return f"{own} + {self.helper_size} x {self.helper.name} ({self.helper_work})"

    def main_part(self, first: int, end: int) -> Part:
        """What each of its own devices computes of some layers."""
        return Part(
            first,
            end,
            dense=True,
            attention=self.helper_work != "attention",
            experts=self.helper_work != "experts",
            share=1.0 / self.size,
        )

    def helper_part(self, first: int, end: int) -> Part | None:
        """What each of its helpers computes of some layers."""
        if self.helper is None:
            return None
        return Part(
            first,
            end,
            dense=False,
            attention=self.helper_work == "attention",
            experts=self.helper_work == "experts",
            share=1.0 / self.helper_size,
        )


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Seconds of one micro-batch in one stage.

    Attributes:
        main: its own devices, and what they tell each other, are busy.
        helper: its helpers are busy.
        wire: data are under way between devices and helpers.
    """

    main: float
    helper: float
    wire: float

    @property
    def busiest(self) -> float:
        """Of what is busy longest: with enough micro-batches, the pace of the stage."""
        return max(self.main, self.helper)

    @property
    def latency(self) -> float:
        """From the first byte in to the last byte out."""
        return self.main + self.helper + self.wire


def stage_seconds(
    costs: CostModel, model: ModelShape, group: Group, layers: tuple[int, int], step: StepShape
) -> StageSeconds:
    """What one step of some layers takes on a group."""
    first, end = layers
    main = costs.step_seconds(model, group.main_part(first, end), group.type, step)
    main += sum_seconds(model, group, end - first, step.num_tokens)
    part = group.helper_part(first, end)
    if part is None or group.helper is None or group.outer is None:
        return StageSeconds(main, 0.0, 0.0)
    helper = costs.step_seconds(model, part, group.helper, step)
    wire = 0.0
    for index in range(first, end):
        moved = helper_bytes(model, index, group.helper_work) * step.num_tokens
        if moved:
            each = moved / max(1, min(group.size, group.helper_size))
            wire += 2 * group.outer.seconds + each / group.outer.bytes_per_second
    return StageSeconds(main, helper, wire)


@dataclass(frozen=True, slots=True)
class LoadSeconds:
    """What the steps of a workload take in one stage.

    Attributes:
        mean: on average; for prompts: of one prompt.
        long: of a step that takes a chunk of a prompt along; of any, where none does.
    """

    mean: StageSeconds
    long: StageSeconds


def load_seconds(
    costs: CostModel,
    model: ModelShape,
    group: Group,
    layers: tuple[int, int],
    load: Load,
    num_sequences: int,
    phase: Phase,
) -> LoadSeconds:
    """The same for the steps of a workload."""
    main = helper = wire = 0.0
    seconds = StageSeconds(0.0, 0.0, 0.0)
    for share, step in load.mean_step(num_sequences, phase):
        seconds = stage_seconds(costs, model, group, layers, step)
        main += share * seconds.main
        helper += share * seconds.helper
        wire += share * seconds.wire
    # The last is the longest.
    return LoadSeconds(StageSeconds(main, helper, wire), seconds)


def sum_seconds(model: ModelShape, group: Group, num_layers: int, num_tokens: int) -> float:
    """Two sums over the devices of a group in each layer, as rings."""
    if group.size == 1 or group.inner is None:
        return 0.0
    others = group.size - 1
    moved = 2 * others / group.size * num_tokens * model.token_bytes
    return (
        2 * num_layers * (2 * others * group.inner.seconds + moved / group.inner.bytes_per_second)
    )


def helper_bytes(model: ModelShape, layer: int, work: str | None) -> float:
    """Bytes of one token that go to the helpers of a layer and come back."""
    shape, size = model.layers[layer], bytes_per_number(model.compute_dtype)
    if work == "attention":
        # Queries, the new keys and values, and what attention gives.
        return (2 * shape.attention_width + shape.cache_width) * size
    return 2 * model.hidden_size * size if shape.num_experts else 0.0


def group_memory(
    costs: CostModel, model: ModelShape, group: Group, layers: tuple[int, int], cached: float
) -> tuple[float, float]:
    """Bytes that each device of a group, and each helper, holds with so many cached tokens."""
    own = group.main_part(*layers)
    main = costs.weight_bytes(model, own) + cached * costs.cache_bytes_per_token(model, own)
    part = group.helper_part(*layers)
    if part is None:
        return main, 0.0
    helper = costs.weight_bytes(model, part) + cached * costs.cache_bytes_per_token(model, part)
    return main, helper
