"""Compare servers: the goodput of each at one goal for the time per token.

    .venv/bin/python -m benchmarks.serve_peers
    .venv/bin/python -m benchmarks.serve_peers --engines banyan:int8 vllm:bf16 --window 20

Each server is started on the same weights and asked the same by `banyan bench serve`'s own code:
prompts of 512 tokens, answers of 128, Poisson arrivals from a seed, at rates that rise until the
p99 of the time per output token breaks the goal (or requests begin too late, which is a queue that
grows). A burst of eight requests finds the rate to begin with. See benchmarks/METHODOLOGY.md.
"""

import argparse
import asyncio
import math
import signal
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from banyan.cli.load.outcome import Summary, summarise
from banyan.cli.load.sending import Server, send_all
from banyan.cli.load.workload import Lengths, Workload
from banyan.foundation.errors import EnvironmentProblem
from benchmarks.serving.contestants import CONTESTANTS, Contestant, Place
from benchmarks.serving.ladder import Ladder, Rung
from benchmarks.serving.started import started
from benchmarks.slice import (
    ARCHITECTURE,
    ROOT,
    BenchmarkError,
    append_record,
    commit_facts,
    comparison_parser,
    machine_facts,
    spread,
)

HISTORY = ROOT / "benchmarks" / "history" / "serve_peers.jsonl"
BAR = 2.5
USUAL = (
    "banyan:bf16",
    "banyan:int8",
    "openvino:int8",
    "llamacpp:q8_0",
    "vllm:bf16",
    "transformers:bf16",
)
BURST = 8
FEWEST = 8


@dataclass(frozen=True, slots=True)
class Window:
    """What one server made of one rate.

    Attributes:
        number: of the round.
        rate: requests in a second that were sent.
        kept: whether all answers came and both goals were kept at p99.
        goodput: good answers in a second of the arrivals.
        figures: the summary as `banyan bench serve` writes it.
    """

    engine: str
    number: int
    rate: float
    kept: bool
    goodput: float
    figures: Mapping[str, Any]

    def line(self) -> str:
        """One line of a log."""
        times = self.figures["milliseconds"]
        parts = [f"{name} p99 {times.get(name, {}).get('p99', 0):8.0f} ms" for name in _GOALS]
        word = "kept" if self.kept else "not kept"
        told = f"{self.figures['num_whole']} of {self.figures['num_asked']}"
        return f"{self.engine:<18} {self.rate:6.2f} /s  {'  '.join(parts)}  {told}  {word}"


_GOALS = ("tpot", "ttft")


def main(
    arguments: Sequence[str] | None = None, contestants: Mapping[str, Contestant] = CONTESTANTS
) -> int:
    """Measure, print a table, append a line to the history; 0 when something was measured."""
    # A server must not outlive a run that is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = parse_options(arguments, contestants)
    console = Console(width=None if sys.stdout.isatty() else 120)
    windows: list[Window] = []
    for number in range(options.rounds):
        first = number % len(options.engines)
        for engine in (*options.engines[first:], *options.engines[:first]):
            try:
                for window in climb(engine, contestants[engine], number, options):
                    console.print(window.line(), highlight=False, markup=False, emoji=False)
                    windows.append(window)
            except (BenchmarkError, EnvironmentProblem) as error:
                # A server that dies ends its own part; what the others did is kept.
                console.print(f"{engine}: {error}", style="red", markup=False, emoji=False)
    if not windows:
        return 1
    best = best_goodputs(windows)
    console.print(table_of(windows, best, options))
    may_reach = unsettled(windows)
    for ours in (name for name in best if contestants[name].is_ours):
        told = verdict(ours, best, contestants, may_reach)
        console.print(told, highlight=False, markup=False, emoji=False)
    append_record(options.history, record_of(windows, best, options))
    return 0


def parse_options(
    arguments: Sequence[str] | None, contestants: Mapping[str, Contestant]
) -> argparse.Namespace:
    """Read the command line."""
    parser = comparison_parser(__doc__.partition("\n")[0], HISTORY)
    parser.set_defaults(rounds=1)
    usual = [name for name in contestants if contestants is not CONTESTANTS or name in USUAL]
    parser.add_argument(
        "--engines", nargs="+", choices=contestants, default=usual, metavar="ENGINE:PRECISION"
    )
    parser.add_argument("--tpot-goal", type=float, default=200.0, help="milliseconds, at p99")
    parser.add_argument("--ttft-goal", type=float, default=10000.0, help="milliseconds, at p99")
    parser.add_argument("--window", type=float, default=45.0, help="seconds of arrivals of a rate")
    parser.add_argument("--factor", type=float, default=1.25, help="from one rate to the next")
    parser.add_argument("--most", type=int, default=4, help="most rates of an engine")
    parser.add_argument("--input-len", type=int, default=512)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def climb(
    engine: str, contestant: Contestant, number: int, options: argparse.Namespace
) -> Iterator[Window]:
    """Start a server and try rates until one is kept and the next is not."""
    place = Place(options.model_root, options.threads, free_port())
    lengths = Lengths(options.input_len, options.output_len)
    with started(contestant.command(place), contestant.environment(place), place.port) as url:
        server = Server(url=url, model="model", extra=dict(contestant.fields))
        words = words_for(server, lengths)
        asked = Workload(mix="fixed", num_requests=BURST, seed=options.seed, fixed=words)
        began = time.monotonic()
        burst = load(server, asked, {})
        if not burst.num_whole:
            raise BenchmarkError(f"no request of the burst was answered: {dict(burst.problems)}")
        capacity = burst.num_whole / (time.monotonic() - began)
        ladder = Ladder(first=capacity, factor=options.factor, most=options.most)
        tried: list[Rung] = []
        while (rate := ladder.next_rate(tried)) is not None:
            workload = Workload(
                mix="fixed",
                num_requests=max(FEWEST, round(rate * options.window)),
                rate=rate,
                # Prompts that no cache has seen; each server gets the same as its nth.
                seed=options.seed + 1 + len(tried),
                fixed=words,
            )
            summary = load(server, workload, goals_of(options))
            window = judged(engine, number, workload, summary)
            tried.append(Rung(rate, window.kept))
            yield window


def words_for(server: Server, lengths: Lengths) -> Lengths:
    """How many words of the load make a prompt of so many tokens, by the server's own count."""
    workload = Workload(mix="fixed", num_requests=1, seed=-1, fixed=Lengths(lengths.prompt, 4))
    outcome = asyncio.run(send_all(server, workload.asks()))[0]
    if outcome.problem is not None:
        raise BenchmarkError(f"the first request was not answered: {outcome.problem}")
    share = lengths.prompt / (outcome.num_prompt_tokens or lengths.prompt)
    return Lengths(max(1, round(lengths.prompt * share)), lengths.answer)


def load(server: Server, workload: Workload, goals: Mapping[str, float]) -> Summary:
    """Send a load and sum it up."""
    return summarise(asyncio.run(send_all(server, workload.asks())), goals)


def goals_of(options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds by measure."""
    return {"tpot": options.tpot_goal, "ttft": options.ttft_goal}


def judged(engine: str, number: int, workload: Workload, summary: Summary) -> Window:
    """Whether a rate was kept, and the goodput at it."""
    # Of answers that came in one piece nobody knows the time per token: that goal is not kept.
    late = [
        name
        for name, limit in summary.goals.items()
        if summary.milliseconds.get(name, {}).get("p99", math.inf) > limit
    ]
    # By the time of the arrivals: a window ends with answers that no new ones follow, and the
    # shorter it is, the more their time would count against slow servers.
    goodput = workload.rate * summary.num_good / max(1, summary.num_asked)
    kept = not late and summary.num_whole == summary.num_asked
    return Window(engine, number, workload.rate, kept, goodput, summary.plain())


def best_goodputs(windows: Sequence[Window]) -> dict[str, list[float]]:
    """By engine the highest goodput of each round among the rates that it kept, 0 for none."""
    best: dict[str, dict[int, float]] = {}
    for window in windows:
        rounds = best.setdefault(window.engine, {})
        found = window.goodput if window.kept else 0.0
        rounds[window.number] = max(rounds.get(window.number, 0.0), found)
    return {engine: list(rounds.values()) for engine, rounds in best.items()}


def unsettled(windows: Sequence[Window]) -> dict[str, float]:
    """Servers with a round in which no rate was kept or each was: the rate that they may reach."""
    rounds: dict[tuple[str, int], list[Window]] = {}
    for window in windows:
        rounds.setdefault((window.engine, window.number), []).append(window)
    found: dict[str, float] = {}
    for (engine, _), tried in rounds.items():
        if len({window.kept for window in tried}) == 1:
            least = min((window.rate for window in tried if not window.kept), default=math.inf)
            found[engine] = max(least, found.get(engine, 0.0))
    return found


def verdict(
    ours: str,
    best: Mapping[str, Sequence[float]],
    contestants: Mapping[str, Contestant],
    may_reach: Mapping[str, float],
) -> str:
    """Our goodput by the best peer's; `may_reach` are rates that were not tried to their end."""
    theirs = {
        name: statistics.median(values)
        for name, values in best.items()
        if not contestants[name].is_ours
    }
    own, most = statistics.median(best[ours]), max(theirs.values(), default=0.0)
    better = [name for name in theirs if may_reach.get(name, 0.0) > most]
    is_open = f"open, more rates must be tried with {', '.join(better)}: raise --most"
    if not most:
        none = f"{ours}: {own:.2f} requests/s; no peer kept the goals at any rate that was tried"
        return f"{none} ({is_open})" if better else none
    peer = max(theirs, key=lambda name: theirs[name])
    ratio = own / most
    word = is_open if better else "met" if ratio >= BAR else "not met"
    return f"{ours}: {ratio:.2f} times the goodput of {peer} (bar {BAR}: {word})"


def table_of(
    windows: Sequence[Window], best: Mapping[str, Sequence[float]], options: argparse.Namespace
) -> Table:
    """Show what each server keeps up, and the rate at which it no longer does."""
    title = f"p99 TPOT <= {options.tpot_goal:g} ms, p99 TTFT <= {options.ttft_goal:g} ms"
    table = Table(title=f"{options.input_len} in, {options.output_len} out, {title}")
    for name in ("engine", "goodput (requests/s)", "not kept at", "tokens/s there"):
        table.add_column(name)
    for engine, values in best.items():
        failed = [one for one in windows if one.engine == engine and not one.kept]
        over = min(failed, key=lambda one: one.rate, default=None)
        table.add_row(
            engine,
            spread(values),
            "-" if over is None else f"{over.rate:.2f}",
            "-" if over is None else f"{over.figures['tokens_per_second']:.1f}",
        )
    return table


def record_of(
    windows: Sequence[Window], best: Mapping[str, Sequence[float]], options: argparse.Namespace
) -> dict[str, Any]:
    """Everything worth keeping of one run; no path of the machine is among it."""
    asked = ("tpot_goal", "ttft_goal", "window", "factor", "input_len", "output_len", "seed")
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M"),
        **commit_facts(),
        **machine_facts(),
        "threads": options.threads,
        "model": ARCHITECTURE,
        **{name: getattr(options, name) for name in asked},
        "goodput": {engine: list(values) for engine, values in best.items()},
        "windows": [asdict(window) for window in windows],
    }


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
