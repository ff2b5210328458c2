"""Plans with their forecasts, and which is better. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from banyan.planner.inventory import PlannedDevice
from banyan.planner.plan import Plan, Prediction, Replica, Stage
from banyan.planner.serving.forecast import Forecast, forecast
from banyan.planner.serving.placed import Task


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan that was looked at.

    Attributes:
        name: "all on fast", "even split over 4 devices", ...
        plan: None where there is none of this kind.
        forecast: of the plan; with the problems where there is none.
        upper_bound: proven tokens per second of all plans of its kind.
    """

    name: str
    plan: Plan | None
    forecast: Forecast
    upper_bound: float | None = None

    @property
    def prediction(self) -> Prediction | None:
        """Figures; None where it cannot run or misses the goal."""
        return self.forecast.prediction


def candidate(name: str, replicas: Iterable[Replica], task: Task) -> Candidate:
    """Forecast a plan of these replicas."""
    plan = Plan(
        model=task.shape.name,
        model_fingerprint=task.shape.fingerprint,
        num_layers=len(task.shape.layers),
        replicas=tuple(replicas),
    )
    return Candidate(name, plan, forecast(plan, task))


def no_candidate(name: str, problem: str) -> Candidate:
    """There is no such plan, and why."""
    return Candidate(name, None, Forecast(prediction=None, problems=(problem,)))


def merit(prediction: Prediction, task: Task) -> tuple[float, float]:
    """How good a plan is, in the sense that was asked for: more is better.

    A workload with a rate wants that rate first, then the objective; fewer tokens than asked for
    lose against any plan that gives all of them.
    """
    rate, workload = prediction.tokens_per_second, task.workload
    aim = {
        "throughput": rate,
        "cost": -(prediction.cost_per_million_tokens or 0.0),
        "energy": -prediction.joules_per_token,
    }[task.choices.objective]
    if workload.requests_per_second is None:
        return aim, rate
    wanted = workload.requests_per_second * workload.answer_tokens
    if rate < wanted * (1 - 1e-9):
        return rate - wanted, aim
    cost = prediction.cost_per_million_tokens
    cheap = -prediction.joules_per_token if task.choices.objective == "energy" else -(cost or 0.0)
    return 0.0, cheap or -float(len(prediction.memory_bytes))


def best_of(candidates: Iterable[Candidate], task: Task) -> Candidate | None:
    """The best that can run."""
    best: tuple[tuple[float, float], Candidate] | None = None
    for each in candidates:
        if each.prediction is None:
            continue
        worth = merit(each.prediction, task)
        if best is None or worth > best[0]:
            best = worth, each
    return best[1] if best else None


def plan_text(plan: Plan, task: Task) -> str:
    """A plan in a few words: "2 replicas: 24 layers on h200, 8 on 2 x l4"."""
    kinds = Counter(_replica_text(replica, task) for replica in plan.replicas)
    return "; ".join(
        f"{count} replica{'s' if count > 1 else ''}: {text}" for text, count in kinds.items()
    )


def _replica_text(replica: Replica, task: Task) -> str:
    text = _stages_text(replica.stages, task)
    if replica.prefill:
        text += f"; prompts on {_stages_text(replica.prefill, task)}"
    return text


def _stages_text(stages: tuple[Stage, ...], task: Task) -> str:
    runs: list[tuple[str, int]] = []
    for stage in stages:
        text = f"{stage.num_layers} layers on {_stage_text(stage, task)}"
        if runs and runs[-1][0] == text:
            runs[-1] = text, runs[-1][1] + 1
        else:
            runs.append((text, 1))
    return ", ".join(text if count == 1 else f"{count} times {text}" for text, count in runs)


def _stage_text(stage: Stage, task: Task) -> str:
    parts = [_group_text(stage.devices, task)]
    if stage.attention:
        parts.append(f"attention on {_group_text(stage.attention, task)}")
    if stage.experts:
        parts.append(f"experts on {_group_text(stage.experts, task)}")
    return ", ".join(parts)


def _group_text(names: tuple[str, ...], task: Task) -> str:
    types = Counter(task.inventory.device(name).type.name for name in names)
    return " and ".join(
        kind if count == 1 else f"{count} x {kind}" for kind, count in types.items()
    )


def devices_by_type(devices: Iterable[PlannedDevice]) -> dict[str, list[PlannedDevice]]:
    """Devices of each type, in order."""
    found: dict[str, list[PlannedDevice]] = {}
    for device in devices:
        found.setdefault(device.type.name, []).append(device)
    return found
