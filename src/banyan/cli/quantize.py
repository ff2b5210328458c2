"""`banyan quantize`: write a model with weights of 8 or 4 bits, and say what that costs."""

from importlib.metadata import metadata
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.markup import escape

from banyan.cli.compile_report import print_rows
from banyan.cli.terminal import loading_view, output, side
from banyan.engine.workbench.accuracy import TextAccuracy, VectorAccuracy
from banyan.engine.workbench.quantizing import QuantizingReport, quantize_directory
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings
from banyan.models.quantisation.rounded import RoundingChoice

_WORST = 5


def run_quantize(
    model: str,
    target: Path,
    choice: RoundingChoice,
    *,
    text: Path | None,
    measure: bool,
    settings: Settings,
) -> None:
    """Quantise a model directory and print what came of it.

    Raises:
        BanyanError: the model cannot be read, or the result cannot be written.
    """
    sample = read_text(text) if measure else None
    with loading_view(side()) as view:
        report = quantize_directory(
            model, target, choice, text=sample, settings=settings, progress=view.show
        )
    print_quantized(output(), target, choice, report)


def read_text(path: Path | None) -> str:
    """The text to calibrate and compare with; without a file, what Banyan says of itself."""
    if path is None:
        return str(metadata("banyan-compute").get_payload())  # type: ignore[attr-defined]
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"the text {path} cannot be read: {error}") from error


def print_quantized(
    console: Console, target: Path, choice: RoundingChoice, report: QuantizingReport
) -> None:
    """Print sizes, errors of layers, and the accuracy of the whole model."""
    before, after = report.bytes_before / 1e6, report.bytes_after / 1e6
    rows = [
        ("layers", f"{report.num_layers} in {choice.format}"),
        ("weights", f"{before:.1f} MB before, {after:.1f} MB now ({after / before:.0%})"),
    ]
    if report.experts:
        rows.append(("experts", f"{len(report.experts)} stacks stay as they were"))
    if report.errors:
        sizes = [error for _, error in report.errors]
        rows.append(("layer error", f"median {median(sizes):.2%}, largest {max(sizes):.2%}"))
        worst = sorted(report.errors, key=lambda found: -found[1])[:_WORST]
        rows += [("", f"{error:.2%}  {layer}") for layer, error in worst]
    console.print(f"[bold]Wrote {escape(str(target))}[/bold]")
    print_rows(console, [*rows, *_accuracy_rows(report.accuracy)])


def _accuracy_rows(accuracy: TextAccuracy | VectorAccuracy | None) -> list[tuple[str, str]]:
    if accuracy is None:
        return []
    if isinstance(accuracy, VectorAccuracy):
        return [
            ("cosine", f"mean {accuracy.mean_cosine:.5f}, least {accuracy.least_cosine:.5f}"),
            ("compared on", f"{accuracy.num_texts} texts"),
        ]
    change = accuracy.quantized_perplexity / accuracy.perplexity - 1
    return [
        ("divergence", f"{accuracy.divergence:.5f} nats per token"),
        ("same first choice", f"{accuracy.agreement:.2%} of tokens"),
        (
            "perplexity",
            f"{accuracy.perplexity:.3f} before, {accuracy.quantized_perplexity:.3f} now "
            f"({change:+.2%})",
        ),
        ("compared on", f"{accuracy.num_tokens} tokens"),
    ]
