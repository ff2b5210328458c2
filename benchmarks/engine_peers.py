"""Compare the engine with every other CPU engine in one run, precision by precision.

    .venv/bin/python -m benchmarks.engine_peers --rounds 3
    .venv/bin/python -m benchmarks.engine_peers --cases decode1 --engines banyan:int4 llamacpp:q4_0

Each case of each round is run by every engine, one after the other, by the outside driver that
`slice.py` uses too (see METHODOLOGY.md); who begins moves on with every round. A bar compares one
of our precisions with the best other engine of a class, within each round.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.slice import (
    ARCHITECTURE,
    ROOT,
    BenchmarkError,
    append_record,
    commit_facts,
    comparison_parser,
    find_driver,
    find_model,
    machine_facts,
    run_driver,
    spread,
)

HISTORY = ROOT / "benchmarks" / "history" / "engine_peers.jsonl"
RATES = {
    "prefill512": "prefill_tok_s",
    "prefill2048": "prefill_tok_s",
    "decode1": "decode_tok_s",
    "batch16": "decode_tok_s",
    "batch64": "decode_tok_s",
}
SMALL_CACHE = "banyan:bf16+kv8"
"""With keys and values in 8 bits, as OpenVINO keeps them beside weights of any precision."""
OURS = ("banyan:bf16", SMALL_CACHE, "banyan:int8+kv8", "banyan:int4")
SMALL_OUTPUT = "banyan:int4+head4"
"""With the output matrix in 4 bits too, as no other engine has it."""
OTHERS = {
    "16 bits": ("openvino:bf16", "llamacpp:bf16", "vllm:bf16", "hf:bf16"),
    "8 bits": ("openvino:int8", "llamacpp:q8_0"),
    "4 bits": ("openvino:int4", "llamacpp:q4_0"),
}
ANY = "any precision"


@dataclass(frozen=True, slots=True)
class Bar:
    """One of our precisions against the best other engine of a class."""

    case: str
    ours: str
    others: str
    ratio: float

    def rivals(self) -> tuple[str, ...]:
        """The engines of the class."""
        return sum(OTHERS.values(), ()) if self.others == ANY else OTHERS[self.others]


BARS = (
    Bar("prefill512", "banyan:bf16", "16 bits", 2.0),
    Bar("prefill2048", "banyan:bf16", "16 bits", 2.0),
    Bar("prefill512", "banyan:int8+kv8", ANY, 3.0),
    Bar("prefill2048", "banyan:int8+kv8", ANY, 3.0),
    Bar("decode1", "banyan:bf16", "16 bits", 1.25),
    Bar("decode1", "banyan:int8+kv8", "8 bits", 1.3),
    Bar("decode1", "banyan:int4", "4 bits", 2.0),
    Bar("decode1", SMALL_OUTPUT, "4 bits", 2.0),
    Bar("batch16", "banyan:bf16", "16 bits", 1.5),
    Bar("batch16", SMALL_CACHE, "16 bits", 1.5),
    Bar("batch16", "banyan:int8+kv8", ANY, 2.5),
    Bar("batch64", "banyan:bf16", "16 bits", 1.8),
    Bar("batch64", SMALL_CACHE, "16 bits", 1.8),
    Bar("batch64", "banyan:int8+kv8", ANY, 3.0),
)
Rates = Mapping[tuple[str, str], Sequence[float]]
"""By case and engine: tokens per second of each round."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, append a line to the history; 0 when everything was measured."""
    options = parse_options(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        driver = find_driver(options.peers)
        model = find_model(options.peers, options.model_root, console)
        rows = list(run_rounds(driver, model, options, console))
    except BenchmarkError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    rates = rates_of(rows)
    console.print(rates_table(rates))
    console.print(bars_table(rates))
    append_record(options.history, record_of(rates, rows, options.threads))
    return 0


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    usual = (*OURS, *sum(OTHERS.values(), ()))
    parser = comparison_parser(__doc__.partition("\n")[0], HISTORY)
    parser.add_argument("--cases", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument(
        "--engines",
        nargs="+",
        choices=(*usual, SMALL_OUTPUT),
        default=list(usual),
        metavar="ENGINE:PRECISION",
    )
    return parser.parse_args(arguments)


def run_rounds(
    driver: Path, model: Path, options: argparse.Namespace, console: Console
) -> Iterator[dict[str, Any]]:
    """Measure every case in every round; the engine that begins moves on."""
    for engine in options.engines:
        console.print(f"Preparing {engine}")
        run_driver(driver, model, engine, "prepare", options.threads)
    for number in range(options.rounds):
        first = number % len(options.engines)
        for case in options.cases:
            for engine in (*options.engines[first:], *options.engines[:first]):
                row = run_driver(driver, model, engine, case, options.threads)
                if engine == SMALL_OUTPUT and "quantization_output" not in row["info"]:
                    raise BenchmarkError(f"the driver does not know {engine}; leave that out")
                rate = row[RATES[case]]["median"]
                console.print(
                    f"round {number + 1} of {options.rounds}  {case:<11} {engine:<16} "
                    f"{rate:9.1f} tokens/s",
                    highlight=False,
                )
                yield {**row, "engine": engine, "case": case, "rate": rate}


def rates_of(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """Gather the rates of each case and engine in the order of the rounds."""
    rates: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        rates.setdefault((row["case"], row["engine"]), []).append(float(row["rate"]))
    return rates


def ratios(bar: Bar, rates: Rates) -> tuple[str, list[float]] | None:
    """Give the best rival by median and our ratio to it in each round; None when not measured."""
    ours = rates.get((bar.case, bar.ours))
    rivals = {name: rates[bar.case, name] for name in bar.rivals() if (bar.case, name) in rates}
    if ours is None or not rivals:
        return None
    best = max(rivals, key=lambda name: statistics.median(rivals[name]))
    return best, [own / other for own, other in zip(ours, rivals[best], strict=True)]


def rates_table(rates: Rates) -> Table:
    """Show every engine's rate in every case."""
    cases = list(dict.fromkeys(case for case, _ in rates))
    table = Table(title=f"{ARCHITECTURE} shape, tokens per second, median [least..most]")
    for name in ("engine", *cases):
        table.add_column(name, no_wrap=True)
    for engine in dict.fromkeys(engine for _, engine in rates):
        values = [rates.get((case, engine)) for case in cases]
        table.add_row(engine, *("-" if value is None else spread(value) for value in values))
    return table


def bars_table(rates: Rates) -> Table:
    """Show each bar with the ratios it was measured by."""
    table = Table(title="Ratios within each round to the best other engine of a class")
    for name in ("case", "ours", "best of", "is", "ratio (each round)", "bar"):
        table.add_column(name)
    for bar in BARS:
        found = ratios(bar, rates)
        if found is None:
            continue
        best, each = found
        middle = statistics.median(each)
        word = "met" if middle >= bar.ratio else "not met"
        listed = ", ".join(f"{value:.2f}" for value in each)
        row = (bar.case, bar.ours, bar.others, best, f"{middle:.2f} ({listed})")
        table.add_row(*row, f"{bar.ratio} {word}")
    return table


def record_of(rates: Rates, rows: Sequence[Mapping[str, Any]], threads: int) -> dict[str, Any]:
    """Everything worth keeping of one run; no path of the machine is among it."""
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M"),
        **commit_facts(),
        **machine_facts(),
        "threads": threads,
        "model": ARCHITECTURE,
        "versions": {row["engine"]: row.get("info", {}) for row in rows},
        "foreign_cpu_fraction": max(row.get("foreign_cpu_frac", 0.0) for row in rows),
        "rates": {f"{case} {engine}": list(values) for (case, engine), values in rates.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
