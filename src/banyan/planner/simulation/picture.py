"""A simulation as one page: figures, latencies, and how busy every device was when. No scripts."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from banyan.planner.simulation.result import (
    FINISHED,
    PERCENTILES,
    DeviceUse,
    Figures,
    SimulationResult,
)

_MOST_ROWS = 120
_CELL_WIDTH, _CELL_HEIGHT, _LEFT = 11, 11, 230
_PANEL_WIDTH, _PANEL_HEIGHT = 420, 200
_CURVE_POINTS = 200
_MEASURES = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "e2el": "from arrival to the last token",
}
_STYLE = (
    "body{font:14px sans-serif;margin:24px;color:#222;background:#fff}"
    "table{border-collapse:collapse;margin:12px 0}td,th{padding:3px 12px;text-align:right}"
    "td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f4f6f8}"
    "svg text{font:11px sans-serif;fill:#222}"
)


def draw(title: str, result: SimulationResult, found: Figures, uses: Sequence[DeviceUse]) -> str:
    """The page as HTML that needs nothing else."""
    parts = [
        "<!doctype html><html><head><meta charset='utf-8'>",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in summary_lines(found)),
        _latencies(found),
        _curves(result),
        "<h2>How busy the devices were</h2>",
        f"<p>A row is a device, a column {result.bin_seconds:.3g} s; dark is busy. "
        f"{escape(_choice(uses))}</p>",
        _heat(_shown(uses), result),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def summary_lines(found: Figures) -> Iterator[str]:
    """What a person wants to know first."""
    yield (
        f"{found.num_finished} of {found.num_requests} requests answered in {found.seconds:.1f} s "
        f"on {found.num_devices} devices: {found.tokens_per_second:.1f} tokens/s"
    )
    for words, count in found.refused.items():
        yield f"{count} requests got no answer: {words}"
    if found.num_preempted:
        yield f"sequences gave way {found.num_preempted} times for want of cache blocks"
    for name, share in found.utilisation.items():
        yield f"{name}: busy {100 * share:.1f} % of the time"
    if found.cost_per_million_tokens is not None:
        yield (
            f"{found.cost:.2f} {found.currency}, "
            f"{found.cost_per_million_tokens:.4g} {found.currency} per million tokens"
        )
    if found.joules:
        yield f"{found.joules_per_token:.4g} J per token"


def _latencies(found: Figures) -> str:
    columns = ("mean", *(f"p{share}" for share in PERCENTILES))
    head = "".join(f"<th>{column}</th>" for column in columns)
    rows = [
        f"<tr><td>{words}</td>"
        + "".join(f"<td>{found.milliseconds[name][column]:.1f}</td>" for column in columns)
        + "</tr>"
        for name, words in _MEASURES.items()
        if name in found.milliseconds
    ]
    return f"<table><tr><th>milliseconds</th>{head}</tr>{''.join(rows)}</table>"


def _curves(result: SimulationResult) -> str:
    """The share of answers (upwards) within a time, and requests that are under way."""
    whole = result.reason == FINISHED
    arrival, first, end = (
        values[whole] for values in (result.trace.arrival, result.first_token, result.finished)
    )
    if not len(arrival):
        return ""
    waits = np.sort(first - arrival)
    levels = np.linspace(0, 1, _CURVE_POINTS)
    quick = np.quantile(waits, levels)
    times = np.linspace(0, result.seconds, _CURVE_POINTS)
    under_way = np.searchsorted(np.sort(arrival), times, "right") - np.searchsorted(
        np.sort(end), times, "right"
    )
    return (
        "<div>"
        + _panel("time to first token (s), share of answers", quick, levels)
        + _panel("requests under way over time (s)", times, under_way.astype(np.float64))
        + "</div>"
    )


def _panel(title: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    right, top = max(float(x.max()), 1e-12), max(float(y.max()), 1e-12)
    points = " ".join(
        f"{40 + a / right * _PANEL_WIDTH:.1f},{30 + (1 - b / top) * _PANEL_HEIGHT:.1f}"
        for a, b in zip(x, y, strict=True)
    )
    bottom = 30 + _PANEL_HEIGHT
    return (
        f'<svg width="{_PANEL_WIDTH + 80}" height="{bottom + 30}">'
        f'<text x="40" y="18">{escape(title)}</text>'
        f'<rect x="40" y="30" width="{_PANEL_WIDTH}" height="{_PANEL_HEIGHT}" fill="none" '
        f'stroke="#999"/><polyline points="{points}" fill="none" stroke="#1565c0" '
        f'stroke-width="2"/><text x="2" y="38">{top:.3g}</text><text x="2" y="{bottom}">0</text>'
        f'<text x="{_PANEL_WIDTH}" y="{bottom + 16}">{right:.4g}</text></svg>'
    )


def _shown(uses: Sequence[DeviceUse]) -> Sequence[DeviceUse]:
    """All devices, or evenly chosen ones from the busiest to the idlest."""
    if len(uses) <= _MOST_ROWS:
        return uses
    ordered = sorted(uses, key=lambda use: -use.busy_seconds)
    return [ordered[int(place)] for place in np.linspace(0, len(uses) - 1, _MOST_ROWS)]


def _choice(uses: Sequence[DeviceUse]) -> str:
    if len(uses) <= _MOST_ROWS:
        return ""
    return f"{_MOST_ROWS} of {len(uses)} devices are shown, evenly from the busiest to the idlest."


def _heat(uses: Sequence[DeviceUse], result: SimulationResult) -> str:
    num_spans = max((len(use.spans) for use in uses), default=0)
    most_columns = 90
    step = max(1, -(-num_spans // most_columns))
    width = _LEFT + -(-num_spans // step) * _CELL_WIDTH + 80
    height = 24 + len(uses) * _CELL_HEIGHT
    stops = {failure.device: failure for failure in result.failures if failure.kind == "stop"}
    parts = [f'<svg width="{width}" height="{height}" shape-rendering="crispEdges">']
    for row, use in enumerate(uses):
        y = 16 + row * _CELL_HEIGHT
        mark = " (stopped)" if use.name in stops else ""
        label = f"{use.name} on {use.type}{mark}"
        parts.append(f'<text x="0" y="{y + 9}">{escape(label[:38])}</text>')
        for column, start in enumerate(range(0, num_spans, step)):
            spans = use.spans[start : start + step]
            share = sum(spans) / len(spans)
            parts.append(
                f'<rect x="{_LEFT + column * _CELL_WIDTH}" y="{y}" width="{_CELL_WIDTH}" '
                f'height="{_CELL_HEIGHT - 1}" fill="{_colour(share)}"/>'
            )
        mean = 100 * use.busy_seconds / result.seconds if result.seconds else 0.0
        parts.append(f'<text x="{width - 74}" y="{y + 9}">{mean:.1f} %</text>')
    return "".join([*parts, "</svg>"])


def _colour(share: float) -> str:
    """From nearly white to dark blue."""
    light, dark = (236, 241, 246), (13, 71, 161)
    mixed = (round(a + (b - a) * share) for a, b in zip(light, dark, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)
