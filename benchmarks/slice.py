"""Compare Banyan with llama.cpp in one run: `make bench`.

Both engines run the same model through the same outside driver, turn by turn, so that what else
the machine does meets both. What counts is the ratio of each round; see METHODOLOGY.md. The driver
and the other engine live outside this repository, in the folder that $BANYAN_PEERS names.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
HISTORY = ROOT / "benchmarks" / "history" / "slice.jsonl"
OURS, THEIRS = "banyan", "llamacpp"
ARCHITECTURE = "qwen3-0.6b"
PRECISION = "bf16"


@dataclass(frozen=True, slots=True)
class Case:
    """One question: the driver's name of it, what is read from its answer, the ratio to reach."""

    name: str
    rate: str
    bar: float


CASES = (
    Case("prefill512", "prefill_tok_s", 5.0),
    Case("decode1", "decode_tok_s", 1.2),
    Case("batch16", "decode_tok_s", 1.5),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Tokens per second of one case, round by round, ours and theirs."""

    case: Case
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours divided by theirs, within each round."""
        return tuple(a / b for a, b in zip(self.ours, self.theirs, strict=True))


class BenchmarkError(Exception):
    """Something the benchmark needs is not there, in one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, append a line to the history; 0 when everything was measured."""
    options = parse_options(arguments)
    # Where output is no terminal, rich believes in 80 columns; the table needs more.
    console = Console(width=None if sys.stdout.isatty() else 110)
    try:
        driver = find_driver(options.peers)
        model = find_model(options.peers, options.model_root, console)
        rows = list(run_rounds(driver, model, options, console))
    except BenchmarkError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    measured = [collect(case, rows) for case in CASES if case.name in options.cases]
    console.print(table_of(measured, options.threads))
    append_record(options.history, record_of(measured, rows, options))
    return 0


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [case.name for case in CASES]
    parser = comparison_parser("Compare Banyan with llama.cpp in one run.", HISTORY)
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    return parser.parse_args(arguments)


def comparison_parser(description: str, history: Path) -> argparse.ArgumentParser:
    """Make the options of every comparison with other engines."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3, help="how often each case is measured")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--peers",
        type=Path,
        default=Path(os.environ.get("BANYAN_PEERS", ROOT.parent / "shared" / "peers")),
        help="folder with run_peer.py (default: $BANYAN_PEERS)",
    )
    parser.add_argument(
        "--model-root",
        type=Path,
        default=Path(os.environ.get("PEERS_ROOT", Path.home() / ".cache" / "banyan-peers")),
        help="where models and the peers' environments are kept (default: $PEERS_ROOT)",
    )
    parser.add_argument("--history", type=Path, default=history)
    return parser


def append_record(history: Path, record: dict[str, Any]) -> None:
    """Add one line to a history."""
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def find_driver(peers: Path) -> Path:
    """Find the outside driver."""
    driver = peers / "run_peer.py"
    if not driver.is_file():
        raise BenchmarkError(
            "The benchmark driver run_peer.py was not found; it is kept outside this repository, "
            "name its folder in BANYAN_PEERS."
        )
    return driver


def find_model(peers: Path, model_root: Path, console: Console) -> Path:
    """Find the model with random weights at the real shape, or make it once."""
    model = model_root / "models" / ARCHITECTURE
    if not (model / "tokenizer.json").is_file():
        console.print(f"Making a {ARCHITECTURE} model with random weights, once (a minute)")
        command = [sys.executable, str(peers / "make_model.py"), "--arch", ARCHITECTURE]
        run_checked([*command, "--out", str(model)], "making the model")
    return model


def run_rounds(
    driver: Path, model: Path, options: argparse.Namespace, console: Console
) -> Iterator[dict[str, Any]]:
    """Measure every case in every round; who goes first alternates."""
    for peer in (OURS, THEIRS):
        console.print(f"Preparing {peer}")
        run_driver(driver, model, peer, "prepare", options.threads)
    for number in range(options.rounds):
        order = (OURS, THEIRS) if number % 2 == 0 else (THEIRS, OURS)
        for case in CASES:
            for peer in order if case.name in options.cases else ():
                row = run_driver(driver, model, peer, case.name, options.threads)
                rate = row[case.rate]["median"]
                console.print(
                    f"round {number + 1} of {options.rounds}  {case.name:<10} {peer:<8} "
                    f"{rate:9.1f} tokens/s",
                    highlight=False,
                )
                yield row


def run_driver(driver: Path, model: Path, engine: str, case: str, threads: int) -> dict[str, Any]:
    """Ask the driver for one case of "engine:precision"; its last line is the answer."""
    peer, _, precision = engine.partition(":")
    command = [sys.executable, str(driver), "--peer", peer, "--precision", precision or PRECISION]
    command += ["--model", str(model), "--case", case, "--threads", str(threads)]
    printed = run_checked([*command, "--reps", "1", "--json"], f"{engine}, case {case}")
    try:
        row: dict[str, Any] = json.loads(printed.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise BenchmarkError(f"{engine}, case {case}: the driver printed no result.") from error
    return row


def run_checked(command: Sequence[str], what: str) -> str:
    """Run a command; its output, or the end of its complaint."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BenchmarkError(f"{what} failed: {last}")
    return result.stdout


def collect(case: Case, rows: Sequence[dict[str, Any]]) -> Measured:
    """Pick one case's rates out of all rows, in the order of the rounds."""

    def rates(peer: str) -> tuple[float, ...]:
        mine = [row for row in rows if (row["case"], row["peer"]) == (case.name, peer)]
        return tuple(float(row[case.rate]["median"]) for row in mine)

    return Measured(case, rates(OURS), rates(THEIRS))


def table_of(measured: Sequence[Measured], threads: int) -> Table:
    """Show median, extremes and the ratio per round."""
    table = Table(title=f"{ARCHITECTURE} shape, {PRECISION}, {threads} threads, tokens per second")
    for name in ("case", "Banyan", "llama.cpp", "ratio (each round)", "bar"):
        table.add_column(name, no_wrap=name in {"Banyan", "llama.cpp"})
    for item in measured:
        ratio = statistics.median(item.ratios)
        each = ", ".join(f"{value:.2f}" for value in item.ratios)
        word = "met" if ratio >= item.case.bar else "not met"
        table.add_row(
            item.case.name,
            spread(item.ours),
            spread(item.theirs),
            f"{ratio:.2f} ({each})",
            f"{item.case.bar} {word}",
        )
    return table


def spread(values: Sequence[float]) -> str:
    """Write a median with its extremes."""
    return f"{statistics.median(values):.1f} [{min(values):.1f}..{max(values):.1f}]"


def record_of(
    measured: Sequence[Measured], rows: Sequence[dict[str, Any]], options: argparse.Namespace
) -> dict[str, Any]:
    """Everything worth keeping of one run; no path of the machine is among it."""
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M"),
        **commit_facts(),
        **machine_facts(),
        "threads": options.threads,
        "model": ARCHITECTURE,
        "precision": PRECISION,
        "versions": {row["peer"]: version_of(row) for row in rows},
        "foreign_cpu_fraction": max(row.get("foreign_cpu_frac", 0.0) for row in rows),
        "cases": {
            item.case.name: {
                "banyan": list(item.ours),
                "llamacpp": list(item.theirs),
                "ratio": round(statistics.median(item.ratios), 3),
                "bar": item.case.bar,
            }
            for item in measured
        },
    }


def version_of(row: dict[str, Any]) -> str:
    """The engine's version as its adapter reports it."""
    info = row.get("info", {})
    return str(info.get("banyan") or info.get("llama_cpp_python") or "unknown")


def commit_facts() -> dict[str, Any]:
    """Which source was measured, and whether it was changed since."""

    def git(*words: str) -> str:
        result = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return result.stdout.strip()

    return {"commit": git("rev-parse", "--short", "HEAD"), "dirty": bool(git("status", "-s"))}


def machine_facts() -> dict[str, Any]:
    """Name the processor and its vector instructions."""
    from banyan.devices.cpu_probe import CpuProbe  # noqa: PLC0415  (only after the driver is found)

    facts = CpuProbe().inventory()[0]
    return {"cpu": facts.model, "cores": facts.cores, "instruction_sets": list(facts.features)}


if __name__ == "__main__":
    sys.exit(main())
