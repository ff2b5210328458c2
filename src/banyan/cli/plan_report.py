"""What `banyan plan` says: the plan, what it should reach, and why every other one lost."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape

from banyan.cli.compile_report import print_rows
from banyan.foundation.byte_sizes import show_bytes
from banyan.planner.inventory import Inventory
from banyan.planner.plan import Prediction, Replica, Stage
from banyan.planner.report import Alternative, PlanReport
from banyan.planner.serving.placed import Task
from banyan.planner.serving.wording import seconds_text, size_text
from banyan.planner.training.job import TrainingReport

Rows = Iterator[tuple[str, str]]

_MOST_LINES = 12
"""Of one kind; a fleet has thousands of devices."""


def print_serving(console: Console, report: PlanReport, task: Task) -> None:
    """Print a plan of serving with everything known about it."""
    console.print(f"[bold]{escape(report.summary)}[/bold]")
    if report.plan is not None and report.plan.prediction is not None:
        print_rows(console, _plan_rows(report.plan.replicas))
        print_rows(console, _prediction_rows(report.plan.prediction, task))
        print_rows(console, _memory_rows(report.plan.prediction, task.inventory))
    if report.alternatives:
        console.print("[bold]What lost, and why[/bold]")
        print_rows(console, _alternative_rows(report.alternatives, task.inventory.currency))
    if report.remedies:
        console.print("[bold]What would make it fit, each alone[/bold]")
        print_rows(
            console,
            ((one.change, f"{one.tokens_per_second:,.1f} tokens/s") for one in report.remedies),
        )
    for line in _notes(task.inventory):
        console.print(f"[dim]{escape(line)}[/dim]")


def print_training(console: Console, report: TrainingReport, inventory: Inventory) -> None:
    """Print a plan of training with everything known about it."""
    console.print(f"[bold]{escape(report.summary)}[/bold]")
    if report.plan is not None:
        print_rows(console, _training_rows(report))
    if report.alternatives:
        console.print("[bold]What lost, and why[/bold]")
        print_rows(console, ((one.name, one.reason) for one in report.alternatives))
    for line in _notes(inventory):
        console.print(f"[dim]{escape(line)}[/dim]")


def serving_values(report: PlanReport, inventory: Inventory) -> dict[str, Any]:
    """The whole answer as plain values for JSON."""
    values = asdict(report)
    plan = report.plan
    if plan is not None and plan.prediction is not None:
        values["plan"]["prediction"]["gap"] = plan.prediction.gap
        values["plan"]["prediction"]["memory_bytes"] = dict(plan.prediction.memory_bytes)
    return values | {"currency": inventory.currency, "described": list(described(inventory))}


def training_values(report: TrainingReport) -> dict[str, Any]:
    """The whole answer as plain values for JSON."""
    return asdict(report)


def described(inventory: Inventory) -> Iterator[str]:
    """Kinds of device whose numbers nobody measured."""
    kinds = {device.type.name: device.type for device in inventory.devices}
    return (name for name, kind in kinds.items() if kind.source == "described")


def _plan_rows(replicas: tuple[Replica, ...]) -> Rows:
    for number, replica in enumerate(replicas[:_MOST_LINES]):
        label = "plan" if len(replicas) == 1 else f"replica {number}"
        for stage in replica.prefill:
            yield label, f"prompts, {stage_text(stage)}"
            label = ""
        for stage in replica.stages:
            yield label, stage_text(stage)
            label = ""
        if replica.max_sequences:
            yield "", f"at most {replica.max_sequences} answers at once"
    if len(replicas) > _MOST_LINES:
        yield "", f"and {len(replicas) - _MOST_LINES} more replicas; --out writes all"


def stage_text(stage: Stage) -> str:
    """A stage in a few words: "layers 0 to 23 on h200-0"."""
    last = stage.end_layer - 1
    layers = f"layer {last}" if stage.num_layers == 1 else f"layers {stage.first_layer} to {last}"
    text = f"{layers} on {' + '.join(stage.devices)}"
    if stage.attention:
        text += f", attention and cache on {' + '.join(stage.attention)}"
    if stage.experts:
        text += f", experts on {' + '.join(stage.experts)}"
    return text


def _prediction_rows(prediction: Prediction, task: Task) -> Rows:
    goal = task.workload.goal
    yield "tokens/s", f"{prediction.tokens_per_second:,.1f} of answers"
    yield "first token", _within(prediction.time_to_first_token, goal.time_to_first_token)
    yield "each token", _within(prediction.time_per_output_token, goal.time_per_output_token)
    if prediction.joules_per_token:
        yield "energy", f"{prediction.joules_per_token:.3g} J for each token"
    else:
        yield "energy", "not known: a device without watts is in the plan"
    if prediction.cost_per_million_tokens is None:
        yield "cost", "not known: no prices were given (--prices)"
    else:
        cost = f"{prediction.cost_per_million_tokens:,.4g} {task.inventory.currency}"
        yield "cost", f"{cost} for a million tokens of answers"
    if prediction.gap is None or prediction.upper_bound is None:
        yield "gap", "nothing is proven about better plans"
    else:
        bound = f"no plan can give more than {prediction.upper_bound:,.1f} tokens/s"
        yield "gap", f"{bound}: {prediction.gap:.1%} more"


def _within(seconds: float, limit: float | None) -> str:
    text = seconds_text(seconds)
    return text if limit is None else f"{text}, the goal is {seconds_text(limit)}"


def _memory_rows(prediction: Prediction, inventory: Inventory) -> Rows:
    """One row for neighbours of one kind that hold the same."""
    types = {device.name: device.type for device in inventory.devices}
    held = [
        (types[name].name, num_bytes, types[name].memory_bytes, name)
        for name, num_bytes in prediction.memory_bytes.items()
    ]
    groups = [
        (key, [name for *_, name in group]) for key, group in groupby(held, lambda row: row[:3])
    ]
    label = "memory"
    for (_, num_bytes, there), names in groups[:_MOST_LINES]:
        whose = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        share = num_bytes / there
        yield label, f"{whose}: {size_text(num_bytes)} of {size_text(there)} ({share:.0%})"
        label = ""
    if len(groups) > _MOST_LINES:
        yield "", f"and {len(groups) - _MOST_LINES} more groups of devices; --json lists all"


def _alternative_rows(alternatives: tuple[Alternative, ...], currency: str) -> Rows:
    for one in alternatives:
        figures = []
        if one.tokens_per_second is not None:
            figures.append(f"{one.tokens_per_second:,.1f} tokens/s")
        if one.cost_per_million_tokens is not None:
            figures.append(f"{one.cost_per_million_tokens:,.4g} {currency} a million")
        beside = f" [{', '.join(figures)}]" if figures else ""
        yield one.name, f"{one.reason}{beside}"


def _training_rows(report: TrainingReport) -> Rows:
    plan = report.plan
    assert plan is not None  # the caller asked
    for number, pipeline in enumerate(plan.pipelines[:_MOST_LINES]):
        stages = ", ".join(
            f"{stage.end_layer - stage.first_layer} layers on {stage.device} "
            f"({pipeline.busy[stage.device]:.0%} busy)"
            for stage in pipeline.stages[:_MOST_LINES]
        )
        yield f"pipeline {number}", f"{pipeline.num_micro_batches} micro-batches: {stages}"
    if len(plan.pipelines) > _MOST_LINES:
        yield "", f"and {len(plan.pipelines) - _MOST_LINES} more pipelines; --json lists all"
    yield "step", seconds_text(plan.step_seconds)
    yield "tokens/s", f"{plan.tokens_per_second:,.0f}"
    fullest = max(plan.memory_bytes, key=lambda name: plan.memory_bytes[name])
    yield "memory", f"{show_bytes(plan.memory_bytes[fullest])} at most, on {fullest}"


def _notes(inventory: Inventory) -> Iterator[str]:
    names = list(described(inventory))
    if names:
        yield (
            f"Described, not measured: {', '.join(names)}. What a plan over such devices reaches "
            "is an estimate; banyan devices --measure makes a profile."
        )
