"""One stage at work, and what all of them cost in memory, energy and money. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from banyan.planner.plan import Prediction
from banyan.planner.serving.placed import Task
from banyan.planner.serving.steps import Phase
from banyan.planner.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class StageForecast:
    """One stage at work.

    Attributes:
        replica: number of its replica.
        stage: number of the stage.
        phase: "both", "answers" or "prompts".
        devices: that hold its layers.
        helpers: that hold its attention or experts; empty where nobody does.
        num_layers: it has.
        seconds: its devices need for one micro-batch, the share of prompts included; for "prompts"
            for one prompt.
        helper_seconds: its helpers need.
        busy: share of the time that its devices work.
        helper_busy: share of the time that its helpers work.
        memory_bytes: that each device holds, weights and cache.
        helper_memory_bytes: that each helper holds.
        sent_bytes_per_token: to the next stage.
        send_seconds: that a micro-batch, or prompt, is on the way there.
    """

    replica: int
    stage: int
    phase: Phase
    devices: tuple[str, ...]
    helpers: tuple[str, ...]
    num_layers: int
    seconds: float
    helper_seconds: float
    busy: float
    helper_busy: float
    memory_bytes: int
    helper_memory_bytes: int
    sent_bytes_per_token: float
    send_seconds: float


def memory_of(stages: tuple[StageForecast, ...]) -> Mapping[str, int]:
    """Bytes that each device holds."""
    held: dict[str, int] = {}
    for stage in stages:
        for names, num_bytes in (
            (stage.devices, stage.memory_bytes),
            (stage.helpers, stage.helper_memory_bytes),
        ):
            for name in names:
                held[name] = held.get(name, 0) + num_bytes
    return held


def served_stages(
    stages: tuple[StageForecast, ...], workload: Workload, capacity: float
) -> tuple[StageForecast, ...]:
    """Fewer requests than could be served leave everybody more idle."""
    share = served_share(workload, capacity)
    return tuple(
        replace(each, busy=each.busy * share, helper_busy=each.helper_busy * share)
        for each in stages
    )


def served_share(workload: Workload, capacity: float) -> float:
    """Share of `capacity`, in tokens per second, that is asked for."""
    if workload.requests_per_second is None:
        return 1.0
    return min(1.0, workload.requests_per_second * workload.answer_tokens / capacity)


def priced(prediction: Prediction, stages: tuple[StageForecast, ...], task: Task) -> Prediction:
    """With energy and money for each token that is really asked for."""
    inventory = task.inventory
    served = prediction.tokens_per_second * served_share(
        task.workload, prediction.tokens_per_second
    )
    busy: dict[str, float] = {}
    for stage in stages:
        for names, share in ((stage.devices, stage.busy), (stage.helpers, stage.helper_busy)):
            for name in names:
                busy[name] = min(1.0, busy.get(name, 0.0) + share)
    types = {name: inventory.device(name).type for name in busy}
    joules = 0.0
    if all(kind.watts_busy for kind in types.values()):
        watts = sum(
            share * types[name].watts_busy + (1 - share) * types[name].watts_idle
            for name, share in busy.items()
        )
        joules = watts / served
    cost = None
    if inventory.price_per_hour or inventory.price_per_kilowatt_hour:
        hourly = sum(inventory.price_per_hour.get(kind.name, 0.0) for kind in types.values())
        per_token = hourly / 3600 / served + joules / 3.6e6 * inventory.price_per_kilowatt_hour
        cost = per_token * 1e6
    return replace(prediction, joules_per_token=joules, cost_per_million_tokens=cost)
