"""Why a plan lost, in one sentence with numbers. Pure."""

from banyan.planner.plan import Prediction
from banyan.planner.report import Alternative
from banyan.planner.serving.candidates import Candidate
from banyan.planner.serving.placed import Task
from banyan.planner.serving.stage_forecast import StageForecast
from banyan.planner.serving.wording import seconds_text


def alternative(lost: Candidate, best: Candidate | None, task: Task) -> Alternative:
    """What is to be said of a plan that was not taken."""
    prediction = lost.prediction
    if prediction is None:
        return Alternative(lost.name, "; ".join(lost.forecast.problems[:2]))
    reason = _reason(lost, prediction, best, task)
    return Alternative(
        lost.name, reason, prediction.tokens_per_second, prediction.cost_per_million_tokens
    )


def _reason(lost: Candidate, figures: Prediction, best: Candidate | None, task: Task) -> str:
    rate = figures.tokens_per_second
    if best is None or best.prediction is None:
        return f"{rate_text(rate)} tokens/s"
    other = best.prediction
    wanted = task.workload.requests_per_second
    if wanted is not None and rate < wanted * task.workload.answer_tokens * (1 - 1e-9):
        asked = wanted * task.workload.answer_tokens
        return f"{rate_text(rate)} tokens/s, {rate_text(asked)} are asked for{_why(lost)}"
    objective = task.choices.objective
    if objective == "energy" and figures.joules_per_token:
        return (
            f"{figures.joules_per_token:.3g} J a token instead of {other.joules_per_token:.3g}"
            f"{_why(lost)}"
        )
    cost, best_cost = figures.cost_per_million_tokens, other.cost_per_million_tokens
    if (objective == "cost" or wanted is not None) and cost and best_cost:
        currency = task.inventory.currency
        return f"{cost:.3g} {currency} a million tokens instead of {best_cost:.3g}{_why(lost)}"
    less = 1 - rate / other.tokens_per_second
    if abs(less) < 0.0005:
        return f"as many tokens/s, on {len(figures.memory_bytes)} devices instead of " + str(
            len(other.memory_bytes)
        )
    return f"{rate_text(rate)} tokens/s, {less:.1%} fewer{_why(lost)}"


def _why(lost: Candidate) -> str:
    """What holds it up: the busiest place, and who waits for it."""
    stages = lost.forecast.stages
    if not stages:
        return ""
    busiest = max(stages, key=_busy)
    idle = [1 - _busy(stage) for stage in stages if stage is not busiest]
    names = busiest.helpers if busiest.helper_busy > busiest.busy else busiest.devices
    seconds = max(busiest.seconds, busiest.helper_seconds)
    what = "a prompt" if busiest.phase == "prompts" else "a step"
    text = f": {_names_text(names)} needs {seconds_text(seconds)} for {what}"
    if idle and max(idle) > 0.05:
        text += f" while others wait up to {max(idle):.0%} of the time"
    return text


def _busy(stage: StageForecast) -> float:
    return max(stage.busy, stage.helper_busy)


def _names_text(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} with {len(names) - 1} more"


def rate_text(rate: float) -> str:
    """Tokens per second for people."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
