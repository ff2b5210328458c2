"""A run as a picture: how many answers were how quick, drawn as SVG. Pure; no fonts, no scripts."""

from collections.abc import Sequence
from html import escape

from banyan.cli.load.outcome import MEASURES, Outcome, Summary

_WIDTH, _HEIGHT, _LEFT, _TOP = 420, 220, 60, 70
_GAP = 90
_DRAWN = ("ttft", "tpot")
_COLOURS = {"p50": "#2e7d32", "p95": "#f9a825", "p99": "#c62828"}


def draw(title: str, summary: Summary, outcomes: Sequence[Outcome]) -> str:
    """Two panels: the share of answers (upwards) within a time (to the right)."""
    width = _LEFT + len(_DRAWN) * (_WIDTH + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_TOP + _HEIGHT + 90}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _label(_LEFT, 24, title, size=16),
        _label(_LEFT, 44, _caption(summary)),
    ]
    for number, name in enumerate(_DRAWN):
        row = sorted(1e3 * t for outcome in outcomes for t in outcome.times()[name])
        parts.append(_panel(_LEFT + number * (_WIDTH + _GAP), name, row, summary))
    return "\n".join([*parts, "</svg>", ""])


def _caption(summary: Summary) -> str:
    text = (
        f"{summary.num_whole} of {summary.num_asked} answered, "
        f"{summary.tokens_per_second:.1f} tokens/s"
    )
    if summary.goals:
        goals = ", ".join(f"{name} {limit:g} ms" for name, limit in summary.goals.items())
        text += f", goodput {summary.goodput:.2f} requests/s within {goals}"
    return text


def _panel(left: int, name: str, row: Sequence[float], summary: Summary) -> str:
    longest = row[-1] * 1.05 if row else 1.0
    bottom = _TOP + _HEIGHT
    parts = [
        f'<rect x="{left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
        'stroke="#888"/>',
        _label(left, _TOP - 8, f"{MEASURES[name]} (ms)"),
        *(_label(left - 40, bottom - _HEIGHT * s // 100 + 4, f"{s} %") for s in (0, 50, 100)),
        *(
            _label(left + _WIDTH * s // 4 - 10, bottom + 18, f"{longest * s / 4:.4g}")
            for s in range(5)
        ),
    ]
    if row:
        points = [(0.0, 0.0)]
        for rank, value in enumerate(row, start=1):
            points.append((value / longest, rank / len(row)))
        path = " ".join(f"{left + x * _WIDTH:.1f},{bottom - y * _HEIGHT:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="#1565c0" stroke-width="2"/>')
    figures = summary.milliseconds.get(name, {})
    for number, (share, colour) in enumerate(_COLOURS.items()):
        if share in figures:
            x = left + figures[share] / longest * _WIDTH
            parts.append(
                f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="{colour}" '
                'stroke-dasharray="4 3"/>'
            )
            text = f"{share} {figures[share]:.4g} ms"
            parts.append(_label(left + number * 140, bottom + 40, text, colour=colour))
    return "\n".join(parts)


def _label(x: int, y: int, text: str, *, size: int = 12, colour: str = "#222") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
