"""One HTML page about a compiled program: its report, and where the time of its runs goes.

Pure: text in, text out. The page needs no network and no script; bars show each kernel's name and
numbers when the mouse rests on them.
"""

from collections.abc import Iterable, Sequence
from html import escape

from banyan.compiler.tuner.timeline import KernelGroup, KernelTime, Timeline

_WIDTH, _HEIGHT = 1200, 46
_HUES = 360
_GOLDEN = 137.5
"""Degrees between neighbouring hues: never two alike side by side."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem;
       color: #1b2733; background: #fbfcfd; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #e3e8ec; }
th:first-child, td:first-child { text-align: left; font-family: ui-monospace, monospace; }
.bar { display: inline-block; height: .7em; background: #2f7d5b; border-radius: 2px; }
.back { display: inline-block; width: 7rem; background: #e3e8ec; border-radius: 2px;
        text-align: left; }
svg { width: 100%; background: #eef1f4; border-radius: 4px; } rect:hover { stroke: #000; }
dt { float: left; clear: left; width: 9rem; color: #5a6b78; } dd { margin-left: 9.5rem; }
"""


def program_page(
    name: str,
    rows: Iterable[tuple[str, str]],
    timelines: Sequence[Timeline],
    files: Sequence[str] = (),
) -> str:
    """The page of one program.

    Args:
        name: the heading.
        rows: label and text of each line of its report.
        timelines: measured runs; none leaves that part out.
        files: names of files beside the page, to link to.
    """
    links = "".join(f'<li><a href="{escape(f)}">{escape(f)}</a></li>' for f in files)
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows)
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(name)}</title>",
        f"<style>{_STYLE}</style><h1>{escape(name)}</h1><dl>{listed}</dl>",
        *(_section(timeline) for timeline in timelines),
        f"<h2>Files</h2><ul>{links}</ul>" if links else "",
        "</html>\n",
    ]
    return "\n".join(parts)


def _section(timeline: Timeline) -> str:
    groups = timeline.groups()
    floor = sum(group.floor_seconds for group in groups)
    share = floor / timeline.seconds if timeline.seconds > 0 else 0.0
    colours = {group.name: _colour(i) for i, group in enumerate(groups)}
    head = (
        f"<h2>{escape(timeline.title)}</h2><p>{len(timeline.kernels)} launches in "
        f"{_time(timeline.seconds)}; the roofline of this device allows {_time(floor)}, "
        f"{share:.0%} of it is reached.</p>"
    )
    titles = "<tr><th>kernel</th><th>launches</th><th>time</th><th>share</th><th>GB/s</th>"
    titles += "<th>GFLOP/s</th><th>bound by</th><th>of the roofline</th></tr>"
    lines = "".join(_row(group, timeline.seconds, colours[group.name]) for group in groups)
    return f"{head}{_chart(timeline, colours)}<table>{titles}{lines}</table>"


def _chart(timeline: Timeline, colours: dict[str, str]) -> str:
    total = timeline.seconds or 1.0
    bars = "".join(_bar(kernel, total, colours[kernel.name]) for kernel in timeline.kernels)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">{bars}</svg>'


def _bar(kernel: KernelTime, total: float, colour: str) -> str:
    left, width = (_WIDTH * part / total for part in (kernel.begin, kernel.seconds))
    text = f"{kernel.name}: {_time(kernel.seconds)}, {kernel.roofline_share:.0%} of the roofline"
    return (
        f'<rect x="{left:.2f}" y="3" width="{max(width, 0.2):.2f}" height="{_HEIGHT - 6}" '
        f'fill="{colour}"><title>{escape(text)}</title></rect>'
    )


def _row(group: KernelGroup, total: float, colour: str) -> str:
    reached = group.floor_seconds / group.seconds if group.seconds > 0 else 0.0
    wide = min(1.0, reached)
    cells = (
        f'<span style="color:{colour}">&#9632;</span> {escape(group.name)}',
        str(group.launches),
        _time(group.seconds),
        f"{group.seconds / total:.0%}" if total > 0 else "",
        f"{group.num_bytes / group.seconds / 1e9:.1f}" if group.seconds > 0 else "",
        f"{group.operations / group.seconds / 1e9:.0f}" if group.operations else "",
        group.bound,
        f'{reached:.0%} <span class="back"><span class="bar" style="width:{wide:.0%}"></span>'
        "</span>",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _colour(number: int) -> str:
    return f"hsl({number * _GOLDEN % _HUES:.0f} 55% {45 + 12 * (number % 2)}%)"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"
