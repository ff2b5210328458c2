"""`banyan tune`: time block sizes of a model's layers here, and keep the best with the evidence."""

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from banyan.cli.terminal import loading_view, output, side
from banyan.compiler.schedules.evidence import Finding
from banyan.engine.workbench.tuning import tune_model
from banyan.foundation.settings import Settings


def run_tune(model: str, *, dtype: str, fresh: bool, settings: Settings) -> None:
    """Tune every layer of a model that was not tuned before and print what was found.

    Raises:
        BanyanError: the model or the compiler cannot be used.
    """
    today = datetime.now(UTC).date().isoformat()
    with loading_view(side()) as view:
        findings = tune_model(
            model,
            dtype=dtype,
            fresh=fresh,
            settings=settings,
            measured_on=today,
            progress=view.show,
        )
    print_findings(output(), findings)


def print_findings(console: Console, findings: list[Finding]) -> None:
    """Print the winner of each shape beside the slowest candidate that was timed."""
    if not findings:
        console.print("Every layer was tuned before; --fresh searches again.")
        return
    table = Table("layer", "weight", "rows", "panels", "rows of input", "time", "slowest", box=None)
    for finding in findings:
        best = next(t for t in finding.timings if t.block == finding.block)
        for number, (rows, seconds) in enumerate(best.seconds):
            slowest = max(dict(timing.seconds)[rows] for timing in finding.timings)
            shape = f"{finding.shape.depth} x {finding.shape.columns}"
            head = (shape, finding.shape.weight, str(finding.block.rows), str(finding.block.panels))
            lead = head if number == 0 else ("", "", "", "")
            table.add_row(*lead, str(rows), f"{seconds * 1e6:.1f} us", f"{slowest * 1e6:.1f} us")
    console.print(table)
