"""A plan as a page: stages over devices, bytes on links, time and memory as bars, idle shares.

Pure: a plan and its forecast in, one HTML file out, with SVG in it. No scripts, fonts or addresses.
"""

from collections.abc import Iterator, Sequence
from html import escape

from banyan.cli.plan_report import stage_text
from banyan.planner.inventory import DeviceType
from banyan.planner.plan import Plan, Prediction, Stage
from banyan.planner.report import PlanReport
from banyan.planner.serving.forecast import Forecast
from banyan.planner.serving.placed import Task
from banyan.planner.serving.stage_forecast import StageForecast
from banyan.planner.serving.wording import seconds_text, size_text

MOST_ROWS = 40
"""Pipelines drawn; those that are alike are one row."""
_LAYERS_WIDTH, _LEAST_WIDTH, _GAP, _TOP, _BOX, _HELPER = 700, 190, 120, 30, 112, 84

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #777; --box: #f4f6f4; --line: #b9c2bb;
  --busy: #2e7d32; --memory: #1565c0; --rest: #dcdfe0; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #9aa09c; --box: #24292a;
  --line: #4d5753; --busy: #66bb6a; --memory: #64b5f6; --rest: #3a4043; --paper: #16191a; } }
body { font: 14px sans-serif; color: var(--ink); background: var(--paper); margin: 2em; }
table { border-collapse: collapse; margin: 0 0 1.5em; }
td, th { padding: 0.2em 1em 0.2em 0; text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: normal; }
.row { overflow-x: auto; }
svg text { font: 12px sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); font-size: 11px; }
svg .name { font-weight: bold; }
svg .box { fill: var(--box); stroke: var(--line); }
svg .helper { stroke-dasharray: 5 3; }
svg .rest { fill: var(--rest); }
svg .busy { fill: var(--busy); }
svg .memory { fill: var(--memory); }
svg .link { stroke: var(--soft); stroke-width: 1.5; }
svg .tip { fill: var(--soft); }
"""


def draw_plan(report: PlanReport, task: Task, found: Forecast) -> str:
    """Draw a plan with its forecast; a report without a plan is a page that says why."""
    title = f"{task.shape.name} over {len(task.inventory.devices)} devices"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"/>',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p>{escape(report.summary)}</p>",
    ]
    if report.plan is not None and report.plan.prediction is not None:
        parts.append(_table(_figures(report.plan.prediction, task)))
        parts += _pipelines(report.plan, task, found)
        parts += _unused(report.plan, task)
    if report.alternatives:
        parts.append("<h2>What lost, and why</h2>")
        parts.append(_table((one.name, one.reason) for one in report.alternatives))
    return "\n".join([*parts, "</body></html>", ""])


def _figures(prediction: Prediction, task: Task) -> Iterator[tuple[str, str]]:
    yield "tokens/s", f"{prediction.tokens_per_second:,.1f}"
    yield "first token", seconds_text(prediction.time_to_first_token)
    yield "each token", seconds_text(prediction.time_per_output_token)
    if prediction.joules_per_token:
        yield "joules a token", f"{prediction.joules_per_token:.3g}"
    if prediction.cost_per_million_tokens is not None:
        cost = f"{prediction.cost_per_million_tokens:,.4g} {task.inventory.currency}"
        yield "cost of a million tokens", cost
    if prediction.gap is not None:
        yield "no plan can give more than", f"{prediction.gap:.1%} above this"


def _table(rows: Iterator[tuple[str, str]]) -> str:
    lines = (f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{''.join(lines)}</table>"


def _pipelines(plan: Plan, task: Task, found: Forecast) -> Iterator[str]:
    """One row for each pipeline, those that are alike drawn once."""
    alike: dict[object, list[list[StageForecast]]] = {}
    for row in _rows(found.stages):
        alike.setdefault(_likeness(row, task), []).append(row)
    for rows in list(alike.values())[:MOST_ROWS]:
        row = rows[0]
        stages = _stages_of(plan, row)
        others = "" if len(rows) == 1 else f" and {len(rows) - 1} alike"
        whose = {"prompts": "Prompts of replica", "answers": "Answers of replica"}
        heading = whose.get(row[0].phase, "Replica")
        yield f"<h2>{heading} {row[0].replica}{others}</h2>"
        yield f'<div class="row">{_svg(row, stages, task)}</div>'
    if len(alike) > MOST_ROWS:
        yield f"<p>{len(alike) - MOST_ROWS} more kinds of pipeline are not drawn.</p>"


def _rows(stages: Sequence[StageForecast]) -> list[list[StageForecast]]:
    found: dict[tuple[int, bool], list[StageForecast]] = {}
    for stage in stages:
        found.setdefault((stage.replica, stage.phase == "prompts"), []).append(stage)
    return list(found.values())


def _likeness(row: Sequence[StageForecast], task: Task) -> object:
    return tuple(
        (
            stage.phase,
            stage.num_layers,
            tuple(task.inventory.device(name).type.name for name in stage.devices),
            tuple(task.inventory.device(name).type.name for name in stage.helpers),
            f"{stage.seconds:.4g}",
        )
        for stage in row
    )


def _stages_of(plan: Plan, row: Sequence[StageForecast]) -> tuple[Stage, ...]:
    replica = plan.replicas[row[0].replica]
    return replica.prefill if row[0].phase == "prompts" else replica.stages


def _svg(row: Sequence[StageForecast], stages: Sequence[Stage], task: Task) -> str:
    num_layers = sum(stage.num_layers for stage in row)
    widths = [max(_LEAST_WIDTH, _LAYERS_WIDTH * stage.num_layers // num_layers) for stage in row]
    longest = max(max(stage.seconds, stage.helper_seconds) for stage in row)
    height = _TOP + _BOX + 10 + (_HELPER + 20 if any(stage.helpers for stage in row) else 0)
    total = sum(widths) + _GAP * (len(row) - 1) + 20
    parts = [f'<svg width="{total}" height="{height}" xmlns="http://www.w3.org/2000/svg">']
    left = 10
    for number, (at_work, stage, width) in enumerate(zip(row, stages, widths, strict=True)):
        parts += _stage(left, width, at_work, stage, task, longest)
        left += width
        if number + 1 < len(row):
            parts += _link(left, at_work)
        left += _GAP
    return "".join([*parts, "</svg>"])


def _stage(
    left: int,
    width: int,
    at_work: StageForecast,
    stage: Stage,
    task: Task,
    longest: float,
) -> Iterator[str]:
    yield f"<g><title>{escape(stage_text(stage))}</title>"
    yield f'<rect class="box" x="{left}" y="{_TOP}" width="{width}" height="{_BOX}" rx="6"/>'
    layers = f"layers {stage.first_layer} to {stage.end_layer - 1}"
    kind = task.inventory.device(at_work.devices[0]).type
    yield _text(left + 8, _TOP + 18, _names(at_work.devices), "name")
    yield _text(left + 8, _TOP + 34, f"{layers}, {kind.name}", "soft")
    memory = (at_work.memory_bytes, kind)
    yield from _bars(
        left + 8, _TOP + 42, width - 16, (at_work.seconds, longest, at_work.busy), memory
    )
    if at_work.helpers:
        top = _TOP + _BOX + 20
        what = "attention and cache" if stage.attention else "experts"
        helper = task.inventory.device(at_work.helpers[0]).type
        yield f'<path class="link" d="M{left + width // 2} {top - 20}v20"/>'
        yield (
            f'<rect class="box helper" x="{left}" y="{top}" width="{width}" height="{_HELPER}" '
            'rx="6"/>'
        )
        yield _text(left + 8, top + 16, f"{what}: {_names(at_work.helpers)}", "name")
        times = (at_work.helper_seconds, longest, at_work.helper_busy)
        yield from _bars(
            left + 8, top + 20, width - 16, times, (at_work.helper_memory_bytes, helper)
        )
    yield "</g>"


def _bars(
    left: int,
    top: int,
    width: int,
    times: tuple[float, float, float],
    memory: tuple[int, DeviceType],
) -> Iterator[str]:
    """Time beside the longest of the row, and memory beside what the device has."""
    seconds, longest, busy = times
    num_bytes, kind = memory
    yield _bar(left, top, width, seconds / longest if longest else 0.0, "busy")
    idle = f"{seconds_text(seconds)}, idle {1 - busy:.0%}"
    yield _text(left, top + 22, idle, "soft")
    yield _bar(left, top + 34, width, num_bytes / kind.memory_bytes, "memory")
    yield _text(left, top + 56, f"{size_text(num_bytes)} of {size_text(kind.memory_bytes)}", "soft")


def _bar(left: int, top: int, width: int, share: float, kind: str) -> str:
    filled = width * min(1.0, max(0.0, share))
    return (
        f'<rect class="rest" x="{left}" y="{top}" width="{width}" height="8" rx="3"/>'
        f'<rect class="{kind}" x="{left}" y="{top}" width="{filled:.1f}" height="8" rx="3"/>'
    )


def _link(left: int, at_work: StageForecast) -> Iterator[str]:
    middle = _TOP + _BOX // 2
    yield f'<path class="link" d="M{left + 6} {middle}h{_GAP - 20}"/>'
    tip = left + _GAP - 6
    yield f'<path class="tip" d="M{tip} {middle}l-9 -5v10z"/>'
    sent = at_work.sent_bytes_per_token
    size = f"{sent / 1e3:.4g} KB" if sent < 1e6 else size_text(sent)
    yield _text(left + 8, middle - 8, f"{size} a token", "soft")
    yield _text(left + 8, middle + 18, seconds_text(at_work.send_seconds), "soft")


def _unused(plan: Plan, task: Task) -> Iterator[str]:
    used = {name for replica in plan.replicas for name in replica.all_devices}
    rest = [device.name for device in task.inventory.devices if device.name not in used]
    if rest:
        more = "" if len(rest) <= 8 else f" and {len(rest) - 8} more"
        yield f"<p>Not used by this plan: {escape(', '.join(rest[:8]) + more)}.</p>"


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} + {len(names) - 1}"


def _text(left: int, top: int, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{left}" y="{top}">{escape(text)}</text>'
