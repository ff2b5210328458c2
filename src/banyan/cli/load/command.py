"""Run `banyan bench serve`: send, sum up, show."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from banyan.cli.load.outcome import MEASURES, PERCENTILES, Summary, summarise
from banyan.cli.load.picture import draw
from banyan.cli.load.sending import Server, send_all
from banyan.cli.load.workload import Workload
from banyan.cli.terminal import output, side
from banyan.foundation.errors import EnvironmentProblem, StorageFull


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What a person asks of `banyan bench serve`.

    Attributes:
        max_concurrency: most requests under way; None sends each at its time.
        goals: milliseconds by measure.
        json_path, picture_path: files to write, None for none.
    """

    server: Server
    workload: Workload
    max_concurrency: int | None = None
    goals: Mapping[str, float]
    json_path: Path | None = None
    picture_path: Path | None = None


def run_load(options: LoadOptions) -> Summary:
    """Load a server and show what it made of it.

    Raises:
        EnvironmentProblem: nobody listens there, nothing was answered, or a file cannot be written.
    """
    asks = options.workload.asks()
    side().print(f"Sending {len(asks)} requests to {options.server.url} ...")
    outcomes = asyncio.run(send_all(options.server, asks, max_concurrency=options.max_concurrency))
    summary = summarise(outcomes, options.goals)
    console = output()
    console.print(table(summary))
    for line in _lines(summary):
        console.print(line)
    if options.json_path is not None:
        told = {
            "workload": asdict(options.workload) | {"rate": str(options.workload.rate)},
            "server": {"url": options.server.url, "model": options.server.model},
            "summary": summary.plain(),
            "outcomes": [asdict(outcome) for outcome in outcomes],
        }
        _write(options.json_path, json.dumps(told, indent=1))
    if options.picture_path is not None:
        title = f"{options.server.model}: {options.workload.mix}, {options.workload.rate:g} /s"
        _write(options.picture_path, draw(title, summary, outcomes))
    if not summary.num_whole:
        reasons = ", ".join(f"{why} ({count})" for why, count in summary.problems.items())
        raise EnvironmentProblem(f"no request was answered: {reasons}")
    return summary


def table(summary: Summary) -> Table:
    """The times of a run."""
    columns = ("mean", *(f"p{share}" for share in PERCENTILES))
    made = Table(title="milliseconds", title_justify="left")
    made.add_column("")
    for column in columns:
        made.add_column(column, justify="right")
    for name, words in MEASURES.items():
        figures = summary.milliseconds.get(name, {})
        cells = (f"{figures[c]:.1f}" if c in figures else "-" for c in columns)
        made.add_row(f"{words} ({name})", *cells)
    return made


def _lines(summary: Summary) -> list[str]:
    seconds = summary.seconds or 1.0
    lines = [
        f"{summary.num_whole} of {summary.num_asked} requests answered in {summary.seconds:.1f} s: "
        f"{summary.num_whole / seconds:.2f} requests/s, "
        f"{summary.tokens_per_second:.1f} tokens/s, "
        f"{summary.prompt_tokens / seconds:.1f} prompt tokens/s"
    ]
    if summary.cached_tokens:
        share = 100 * summary.cached_tokens / summary.prompt_tokens
        lines.append(f"{share:.1f} % of the prompt tokens were found in the prefix cache")
    lines += [f"{why}: {count}" for why, count in summary.problems.items()]
    if summary.goals:
        goals = ", ".join(f"{name} <= {limit:g} ms" for name, limit in summary.goals.items())
        lines.append(f"goodput {summary.goodput:.2f} requests/s ({summary.num_good} with {goals})")
    return lines


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageFull(f"{path} cannot be written: {error}") from error
