"""What is to be trained, the plan for it, and why other plans lost. Frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Order = Literal["1f1b", "gpipe"]
"""`1f1b`: a stage does a backward pass as soon as it can and so holds few micro-batches.
`gpipe`: all forward passes, then all backward passes; holds every micro-batch."""

ORDERS: tuple[Order, ...] = ("1f1b", "gpipe")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One step of training.

    Attributes:
        sequences_per_step: sequences whose gradients make one step, all devices together.
        sequence_tokens: tokens of each.
        state_bytes_per_weight: weight, gradient, and what the optimiser keeps; with 16-bit weights
            and Adam in float32 2 + 2 + 4 + 4 + 4.
        recompute: keep only the input of each layer, and compute the layer again on the way back.
    """

    sequences_per_step: int
    sequence_tokens: int
    state_bytes_per_weight: float = 16.0
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """Layers `first_layer` up to, not including, `end_layer`, on one device."""

    first_layer: int
    end_layer: int
    device: str


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One whole copy of the model and its part of each step.

    Attributes:
        stages: in the order of the layers.
        num_micro_batches: that it computes in a step.
        seconds: from its first forward pass to its last backward pass.
        busy: device -> share of `seconds` that it computes.
    """

    stages: tuple[TrainingStage, ...]
    num_micro_batches: int
    seconds: float
    busy: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """How a model is trained.

    Attributes:
        pipelines: they compute different sequences and add up their gradients.
        micro_batch: sequences in a micro-batch.
        order: in which a stage takes forward and backward passes.
        step_seconds: of one step, gradients added up.
        tokens_per_second: all pipelines together.
        memory_bytes: device -> bytes at its fullest.
    """

    pipelines: tuple[Pipeline, ...]
    micro_batch: int
    order: Order
    step_seconds: float
    tokens_per_second: float
    memory_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TrainingAlternative:
    """A plan a person would ask about: its step, or None where it does not fit, and why."""

    name: str
    step_seconds: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """The answer: a plan, or None and `summary` says what is missing."""

    plan: TrainingPlan | None
    summary: str
    alternatives: tuple[TrainingAlternative, ...] = ()
