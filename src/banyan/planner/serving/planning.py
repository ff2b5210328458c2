"""From a model, devices, a workload and a cost model to the best plan, with reasons. Pure."""

from dataclasses import replace

from banyan.foundation.errors import InputError
from banyan.planner.costs import CostModel
from banyan.planner.inventory import Inventory
from banyan.planner.model_shape import ModelShape
from banyan.planner.report import PlanningChoices, PlanReport
from banyan.planner.serving.candidates import (
    Candidate,
    best_of,
    merit,
    no_candidate,
    plan_text,
)
from banyan.planner.serving.explain import alternative, rate_text
from banyan.planner.serving.hosts import solve_everything
from banyan.planner.serving.natural import natural_plans
from banyan.planner.serving.placed import Task
from banyan.planner.serving.remedies import remedies
from banyan.planner.serving.scopes import alternatives
from banyan.planner.serving.single import single_pipelines
from banyan.planner.serving.solver import Tables, solve
from banyan.planner.workload import Workload


def plan_serving(
    shape: ModelShape,
    inventory: Inventory,
    workload: Workload,
    costs: CostModel,
    *,
    choices: PlanningChoices,
) -> PlanReport:
    """Find where a model is served best.

    Args:
        shape: of the model.
        inventory: devices, links and prices.
        workload: requests, and how fast each has to be.
        costs: predicts steps.
        choices: what to aim at and what may be considered.

    Returns:
        The best plan with its prediction, why each natural alternative lost, and, where nothing
        fits, which single changes would make it fit.

    Raises:
        InputError: no devices, or a workload without tokens.
    """
    task = Task(shape, inventory, workload, costs, choices)
    _check(task)
    tables = Tables(task)
    candidates = solve_everything(task, tables)
    bound = candidates[0].upper_bound
    candidates += [*natural_plans(task), *single_pipelines(task, tables)]
    candidates += [solve(scope, tables) for scope in alternatives(task)]
    candidates = [_limited(each, choices.most_replicas) for each in candidates]
    best = best_of(candidates, task)
    if workload.requests_per_second is not None or choices.objective != "throughput":
        # What was proven is the most tokens per second, and that was not asked for.
        bound = None
    if best is not None and best.prediction is not None and bound is not None:
        # The cost model rounds what the tables add up; a plan proves at least itself.
        best = replace(best, upper_bound=max(bound, best.prediction.tokens_per_second))
    elif best is not None:
        best = replace(best, upper_bound=None)
    return _report(candidates, best, task)


def _limited(each: Candidate, most: int | None) -> Candidate:
    """A candidate of more replicas than are wanted is none."""
    if most is None or each.plan is None or len(each.plan.replicas) <= most:
        return each
    wanted = "1 is" if most == 1 else f"{most} are"
    problem = f"it has {len(each.plan.replicas)} replicas and at most {wanted} wanted"
    return no_candidate(each.name, problem)


def _check(task: Task) -> None:
    if not task.inventory.devices:
        raise InputError("the inventory has no devices; name at least one")
    workload = task.workload
    for what, value in (("prompt", workload.prompt_tokens), ("answer", workload.answer_tokens)):
        if value < 1:
            raise InputError(f"the {what} of the workload has {value} tokens; 1 or more is needed")


def _report(candidates: list[Candidate], best: Candidate | None, task: Task) -> PlanReport:
    taken = best.plan.replicas if best and best.plan else None
    lost = [each for each in candidates if each.plan is None or each.plan.replicas != taken]
    lost.sort(key=lambda each: _order(each, task))
    alternatives = tuple(alternative(each, best, task) for each in lost)
    if best is None or best.plan is None or best.prediction is None:
        reason = next((each.reason for each in alternatives), "nothing was tried")
        return PlanReport(
            plan=None,
            summary=f"{task.shape.name} cannot be served so on these devices: {reason}",
            alternatives=alternatives,
            remedies=remedies(task),
        )
    prediction = replace(best.prediction, upper_bound=best.upper_bound)
    replicas = tuple(
        replace(replica, max_sequences=pace.num_sequences)
        for replica, pace in zip(best.plan.replicas, best.forecast.paces, strict=True)
    )
    return PlanReport(
        plan=replace(best.plan, replicas=replicas, prediction=prediction),
        summary=(
            f"{rate_text(prediction.tokens_per_second)} tokens/s with {plan_text(best.plan, task)}"
        ),
        alternatives=alternatives,
    )


def _order(each: Candidate, task: Task) -> tuple[float, ...]:
    if each.prediction is None:
        return (1.0,)
    return (0.0, *(-value for value in merit(each.prediction, task)))
