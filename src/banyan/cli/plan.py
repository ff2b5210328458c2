"""`banyan plan`: where a model is served or trained best on an inventory, and why.

Reads files and writes files; what is planned is decided by `banyan.planner`.
"""

import json
from pathlib import Path

from banyan.cli.plan_arguments import PlanArguments
from banyan.cli.plan_inputs import read_devices, read_shape
from banyan.cli.plan_picture import draw_plan
from banyan.cli.plan_report import (
    print_serving,
    print_training,
    serving_values,
    training_values,
)
from banyan.cli.shipped import find_model
from banyan.cli.terminal import loading_view, output, side
from banyan.foundation.errors import InputError, StorageFull
from banyan.foundation.settings import Settings
from banyan.planner.goal_text import read_goal, read_training_job, read_workload
from banyan.planner.plan_file import print_plan
from banyan.planner.report import OBJECTIVES, Objective, PlanningChoices, PlanReport
from banyan.planner.serving import plan_serving
from banyan.planner.serving.forecast import forecast
from banyan.planner.serving.placed import Task
from banyan.planner.training.report import plan_training


def run_plan(arguments: PlanArguments, settings: Settings) -> None:
    """Plan, print, and write what was asked for.

    Raises:
        InputError: an option or a file cannot be used, or nothing fits.
        StorageFull: a file cannot be written.
    """
    if arguments.train is None:
        _serve(arguments, settings)
    else:
        _train(arguments, arguments.train, settings)


def _serve(arguments: PlanArguments, settings: Settings) -> None:
    task = _task(arguments, settings)
    with loading_view(side()) as view:
        view.show(f"Planning {task.shape.name} over {len(task.inventory.devices)} devices")
        report = plan_serving(
            task.shape, task.inventory, task.workload, task.costs, choices=task.choices
        )
    if arguments.as_json:
        text = json.dumps(serving_values(report, task.inventory), indent=2)
        output().print(text, markup=False)
    else:
        print_serving(output(), report, task)
    if report.plan is None:
        raise InputError(_refusal(report))
    if arguments.out is not None:
        write_file(arguments.out, print_plan(report.plan))
    if arguments.html is not None:
        write_file(arguments.html, draw_plan(report, task, forecast(report.plan, task)))
    _say_written(arguments)


def _task(arguments: PlanArguments, settings: Settings) -> Task:
    choices = PlanningChoices(objective=_objective(arguments))
    # What is cheap to refuse is refused before a model is looked up.
    workload = read_workload(arguments.workload, read_goal(arguments.goal))
    devices = read_devices(arguments.devices, arguments.prices, settings)
    shape = read_shape(
        find_model(arguments.model),
        weights=arguments.weights,
        cache=arguments.kv_cache,
        settings=settings,
    )
    return Task(shape, devices.inventory, workload, devices.costs, choices)


def _train(arguments: PlanArguments, train: str, settings: Settings) -> None:
    job = read_training_job(train)
    for option, given in (("--out", arguments.out), ("--html", arguments.html)):
        if given is not None:
            raise InputError(
                f"{option} is for plans of serving; print a plan of training with --json"
            )
    devices = read_devices(arguments.devices, arguments.prices, settings)
    shape = read_shape(
        find_model(arguments.model), weights=arguments.weights, cache="auto", settings=settings
    )
    with loading_view(side()) as view:
        view.show(f"Planning {shape.name} over {len(devices.inventory.devices)} devices")
        report = plan_training(shape, devices.inventory, job, devices.costs)
    if arguments.as_json:
        output().print(json.dumps(training_values(report), indent=2), markup=False)
    else:
        print_training(output(), report, devices.inventory)
    if report.plan is None:
        raise InputError(report.summary)


def write_file(path: Path, text: str) -> None:
    """Write a file of a command's result.

    Raises:
        StorageFull: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageFull(
            f"{path} cannot be written ({error.strerror}); name a file in a folder that exists"
        ) from error


def _objective(arguments: PlanArguments) -> Objective:
    for known in OBJECTIVES:
        if arguments.objective == known:
            if known == "cost" and arguments.prices is None:
                raise InputError("--objective cost needs prices; name a file with --prices")
            return known
    raise InputError(
        f"--objective {arguments.objective!r} is not known; use throughput, cost or energy"
    )


def _refusal(report: PlanReport) -> str:
    if not report.remedies:
        return report.summary
    changes = "; or ".join(remedy.change for remedy in report.remedies[:3])
    return f"{report.summary}; it would fit with {changes}"


def _say_written(arguments: PlanArguments) -> None:
    written = [str(path) for path in (arguments.out, arguments.html) if path is not None]
    if written:
        side().print(f"Written: {' and '.join(written)}", markup=False)
