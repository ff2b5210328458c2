"""What planning answers: a plan, why nothing else was taken, and what would make it fit. Frozen."""

from dataclasses import dataclass
from typing import Literal

from banyan.planner.plan import Plan

Objective = Literal["throughput", "cost", "energy"]
OBJECTIVES: tuple[Objective, ...] = ("throughput", "cost", "energy")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningChoices:
    """How to plan.

    Attributes:
        objective: "throughput": most tokens per second; "cost": fewest money per token;
            "energy": fewest joules per token. A workload that names a rate of requests is served
            at the least cost, or with the fewest devices where nothing has a price.
        memory_share: share of a device's memory that weights and cache may take; programs and
            activations live in the rest.
        max_tensor_parallel: most devices that cut the tensors of one stage.
        prefill_apart: consider prompts on other devices than answers.
        attention_apart: consider attention and its cache on CPUs.
        experts_apart: consider experts on CPUs.
        prefill_chunk: tokens of a prompt that one step takes at most.
        most_replicas: so many copies of the model at most; None sets no limit.
    """

    objective: Objective = "throughput"
    memory_share: float = 0.92
    max_tensor_parallel: int = 8
    prefill_apart: bool = True
    attention_apart: bool = True
    experts_apart: bool = True
    prefill_chunk: int = 2048
    most_replicas: int | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """A plan that a person would ask about, and why it was not taken.

    Attributes:
        name: "all on fast", "even split", ...
        reason: one sentence with numbers: "3.1 GiB short on card 2".
        tokens_per_second: what it would give; None where it cannot run or misses the goal.
        cost_per_million_tokens: None where it cannot run or nothing has a price.
    """

    name: str
    reason: str
    tokens_per_second: float | None = None
    cost_per_million_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """A single change with which a model fits.

    Attributes:
        change: in words: "weights in int4", "one more fast", "a context of 8,000 tokens".
        tokens_per_second: what the plan would give then.
    """

    change: str
    tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """The answer.

    Attributes:
        plan: the best plan found, with its prediction; None where nothing fits.
        summary: one sentence: what the plan is, or what is missing.
        alternatives: every natural plan that was not taken, the best first.
        remedies: where nothing fits: each alone makes it fit; the best first.
    """

    plan: Plan | None
    summary: str
    alternatives: tuple[Alternative, ...] = ()
    remedies: tuple[Remedy, ...] = ()
