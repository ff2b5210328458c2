"""A server that is asked for ten times what it can do, for a minute: who is answered, and how soon.

    python -m benchmarks.overload [--model DIR] [--seconds 60] [--times 10] [--goal-ms 2000]

Starts a server with a goal for the first token, measures what it can do with all its places taken,
then sends a Poisson process of so many times that, readers who stream and who pay no attention to
`Retry-After`. Prints what became of them. Fails when an answer that was admitted did not finish,
when anything but 429 or 503 refused one, when a refusal named no time to come back, or when the
99th percentile of the times to the first token of those admitted is over the goal.
"""

import argparse
import asyncio
import math
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from banyan.cli.load.outcome import Summary, summarise
from banyan.cli.load.sending import Server, send_all
from banyan.cli.load.workload import Lengths, Workload

SEEDLING = Path(__file__).parent.parent / "models" / "seedling"
SEATS = 8
LENGTHS = Lengths(60, 300)
REFUSALS = {"status 429", "status 503"}
START_SECONDS = 300.0
PROBE_EVERY_SECONDS = 0.5
WHOLE = 200


@dataclass(frozen=True, slots=True)
class Overload:
    """What came of a run.

    Attributes:
        capacity: answers in a second with all places taken.
        rate: requests in a second that were sent.
        goal_ms: for the first token.
        summary: of the flood.
        retry_after: seconds that refusals named, by how often; None for those that named none.
    """

    capacity: float
    rate: float
    goal_ms: float
    summary: Summary
    retry_after: Counter[int | None] = field(default_factory=Counter)

    @property
    def first_token_ms(self) -> float:
        """The 99th percentile of those admitted."""
        return self.summary.milliseconds["ttft"]["p99"]

    def failures(self) -> list[str]:
        """What must not happen and did."""
        found = [
            f"{count} x {problem}"
            for problem, count in self.summary.problems.items()
            if problem not in REFUSALS
        ]
        if not self.summary.num_whole:
            return [*found, "nobody was answered"]
        if self.first_token_ms > self.goal_ms:
            found.append(f"p99 of the first token is {self.first_token_ms:.0f} ms")
        if self.retry_after[None]:
            found.append(f"{self.retry_after[None]} refusals named no time to come back")
        return found

    def lines(self) -> Iterator[str]:
        """The result for people."""
        first = self.summary.milliseconds.get("ttft", {})
        refused = sum(self.summary.problems.get(name, 0) for name in REFUSALS)
        yield f"capacity {self.capacity:.1f} answers/s; asked {self.rate:.1f}/s"
        yield f"asked {self.summary.num_asked}: {self.summary.num_whole} whole, {refused} refused"
        yield f"answered {self.summary.num_whole / self.summary.seconds:.1f}/s"
        shown = ", ".join(f"{name} {value:.0f}" for name, value in first.items())
        yield f"first token in ms: {shown} (goal {self.goal_ms:.0f})"
        named = sorted(seconds for seconds in self.retry_after if seconds is not None)
        if named:
            yield f"refusals asked to come back in {named[0]} to {named[-1]} s"


@contextmanager
def limited_server(model: str, goal_ms: float, seats: int) -> Iterator[str]:
    """Start a server with a goal, lend its address, stop it."""
    command = (sys.executable, "-m", "banyan.cli.main", "serve", model, "--port", "0")
    limits = ("--max-num-seqs", str(seats), "--max-model-len", "512", "--threads", "1")
    goals = ("--first-token-goal-ms", f"{goal_ms:g}", "--served-model-name", "flooded")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as sink:
            process = subprocess.Popen([*command, *limits, *goals], stdout=sink, stderr=sink)
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = re.search(r"^Serving \S+ at (\S+)$", log.read_text(), re.MULTILINE)
        if found is not None:
            return found[1]
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not start:\n{log.read_text()}")
        time.sleep(0.05)


async def flood(
    url: str, *, seconds: float, times: float, goal_ms: float, seats: int = SEATS
) -> Overload:
    """Measure what a server can do, then ask it for `times` that."""
    server = Server(url=url, model="flooded")
    # The first round is slower: pages are touched, the cost of steps is learned.
    full = Workload(mix="fixed", num_requests=6 * seats, seed=1, fixed=LENGTHS).asks()
    await send_all(server, full[:seats], max_concurrency=seats)
    calm = summarise(await send_all(server, full[seats:], max_concurrency=seats), {})
    capacity = calm.num_whole / calm.seconds
    rate = times * capacity
    asks = Workload(
        mix="fixed", num_requests=math.ceil(rate * seconds), rate=rate, seed=2, fixed=LENGTHS
    ).asks()
    retry_after: Counter[int | None] = Counter()
    probing = asyncio.create_task(_probe(url, retry_after))
    try:
        outcomes = await send_all(server, asks)
    finally:
        probing.cancel()
    return Overload(capacity, rate, goal_ms, summarise(outcomes, {}), retry_after)


async def _probe(url: str, retry_after: Counter[int | None]) -> None:
    """Ask now and then among the others, and note the header of refusals."""
    body = {"model": "flooded", "prompt": "a probe", "max_tokens": 1}
    async with httpx.AsyncClient(timeout=60) as http:
        while True:
            answer = await http.post(f"{url}/v1/completions", json=body)
            if answer.status_code != WHOLE:
                named = answer.headers.get("retry-after")
                retry_after[None if named is None else int(named)] += 1
            await asyncio.sleep(PROBE_EVERY_SECONDS)


def main() -> int:
    """Flood a server and judge it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(SEEDLING))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--goal-ms", type=float, default=2000.0)
    asked = parser.parse_args()
    with limited_server(asked.model, asked.goal_ms, SEATS) as url:
        found = asyncio.run(
            flood(url, seconds=asked.seconds, times=asked.times, goal_ms=asked.goal_ms)
        )
    print("\n".join(found.lines()))
    failures = found.failures()
    for failure in failures:
        print(f"FAILED: {failure}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
