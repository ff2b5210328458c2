"""`banyan conformance`: run the kit on a device, say what failed, and write its row."""

import importlib.metadata
import json
import subprocess
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from banyan.cli.terminal import loading_view, output, side
from banyan.engine.workbench.conformance.checks import AREAS, Area, Check, ConformanceReport
from banyan.engine.workbench.conformance.kit import check_device
from banyan.engine.workbench.conformance.matrix import require_table, row_of, with_row
from banyan.foundation.errors import InputError, StorageFull
from banyan.foundation.settings import Settings

_MEANING = {
    "verified": "every check passed on this chip",
    "emulated": "every check passed, under an emulation of a chip",
    "described": "no model should run on it yet",
}


def run_conformance(
    device: str,
    *,
    areas: Collection[str],
    page: Path | None,
    as_json: bool,
    settings: Settings,
) -> bool:
    """Run the kit, print what it found, write the row when asked; true when all passed.

    Raises:
        InputError: an area is not known, or the page has no table.
        BanyanError: the device cannot be opened.
    """
    chosen = chosen_areas(areas)
    if page is not None:
        require_table(_read_page(page))  # before minutes of work
    with loading_view(side()) as view:

        def show(check: Check) -> None:
            view.show(f"Checking {check.area}")

        report = check_device(device, settings=settings, areas=chosen, tell=show)
    if as_json:
        output().print(json.dumps(asdict(report), indent=2), markup=False)
    else:
        print_report(output(), report)
    if page is not None:
        row = row_of(report, date=datetime.now(UTC).date().isoformat(), commit=source_version())
        _write_page(page, with_row(_read_page(page), row))
        side().print(f"Wrote the row of {escape(report.device)} to {escape(str(page))}")
    return not report.failures


def chosen_areas(names: Collection[str]) -> tuple[Area, ...]:
    """The areas of these names, all of them for none.

    Raises:
        InputError: a name is not known.
    """
    unknown = sorted(set(names) - set(AREAS))
    if unknown:
        raise InputError(f"--only {unknown[0]!r} is not known; use {', '.join(AREAS)}")
    return tuple(area for area in AREAS if area in names or not names)


def print_report(console: Console, report: ConformanceReport) -> None:
    """Print how much passed in each area, every failure with its numbers, and the word."""
    console.print(f"[bold]{escape(report.device)}[/bold]: {escape(report.model)}")
    every = Counter(check.area for check in report.checks)
    failed = Counter(check.area for check in report.failures)
    for area in AREAS:
        if every[area]:
            mark = "[red]failed[/red]" if failed[area] else "[green]ok    [/green]"
            console.print(f"{mark} {area}: {every[area] - failed[area]} of {every[area]}")
        else:
            console.print(f"[dim]left out {area}[/dim]")
    for check in report.failures:
        console.print(f"  [red]{check.area}[/red] {escape(check.name)}: {escape(check.found)}")
    console.print(f"Status: [bold]{report.status}[/bold], {_MEANING[report.status]}")


def source_version() -> str:
    """The commit of the source that runs, with a + where files differ from it; else the version."""
    folder = Path(__file__).parent.parent
    try:
        commit = _git(folder, "rev-parse", "--short=10", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.SubprocessError):
        return importlib.metadata.version("banyan-compute")
    return f"{commit}+" if changed else commit


def _git(folder: Path, *words: str) -> str:
    command = ("git", "-C", str(folder), *words)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _read_page(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"--write {page}: cannot read it ({error.strerror}); name docs/support_matrix.md"
        ) from error


def _write_page(page: Path, text: str) -> None:
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageFull(f"--write {page}: cannot write it ({error.strerror})") from error
