"""Kill, stop and cut off parts of a served model under load, and look at every token.

    python -m benchmarks.drills [--model DIR] [--events 100] [--clients 32] [--seed 0] [--keep FILE]
    python -m benchmarks.drills --report FILE

Starts a server of a model that is cut over two workers, in float32: one is a process of this host,
the other listens behind a TCP link that can be cut. Clients stream greedy answers all the time;
each is compared with the answer the same server gave alone. About every second of quiet chance
picks a part and kills it (SIGKILL), stops it (SIGSTOP) or cuts the link. The server replaces a
local part. The far worker stays away until streams move again on what is left; then it comes back,
and the drill ends when it has its layers again: by itself, or where the server would look for it
only later, because somebody tells it to look (`banyan drain far --back`). An answer that lacks,
repeats or changes a token, ends in an error or hangs makes the run fail.

After every event the verdict so far is printed and kept in FILE, as one line that is replaced;
SIGINT and SIGTERM end a run with it. Pauses are: of each event the median over the streams under
way, and of all faults the median and the longest, by kind; taking the far worker back is counted
apart.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
from openai import AsyncOpenAI

from banyan.models.loading import open_model
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from benchmarks.drilling.answers import HANG_SECONDS, Answers
from benchmarks.drilling.far_worker import far_worker
from benchmarks.drilling.link import cuttable_link
from benchmarks.drilling.parts import Condition, Parts, workers_of
from benchmarks.drilling.verdict import Event, KeptRun, Verdict, read_record
from benchmarks.serving.our_server import our_server
from benchmarks.slice import commit_facts, machine_facts

ROOT = Path(__file__).parent.parent
SEEDLING = ROOT / "models" / "seedling"
FAR = "far worker"
INVENTORY = """
[types.core]
kind = "cpu"
vendor = "any"
memory = "4GB"
bandwidth = "10GB/s"
operations = { float32 = "100G", bfloat16 = "100G" }

[[devices]]
type = "core"
name = "cpu"

[[devices]]
type = "core"
name = "far"
host = "there"

[links]
between_hosts = { bandwidth = "1GB/s", latency = "50us" }
"""
QUIET_SECONDS = 1.0
"""Between the end of one drill, when all streams move again, and the next."""

_BY_ITSELF_SECONDS = 2.0
"""For so long nobody tells the server that the far worker is back."""

_TICK_SECONDS = 0.05

Say = Callable[[Verdict], None]


@dataclass(slots=True)
class Drill:
    """One run.

    Attributes:
        parts: what can be broken.
        answers: of the clients.
        chance: what is broken next.
        num_wanted: faults.
        events: so far.
    """

    parts: Parts
    answers: Answers
    chance: random.Random
    num_wanted: int
    events: list[Event] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """What was shown so far."""
        answers = self.answers
        return Verdict(self.num_wanted, answers.whole, dict(answers.failures), tuple(self.events))

    async def break_one(self) -> None:
        """Break one part, and mend it where nobody else does."""
        condition = await self._until(lambda now: now.is_whole and now.engine, "it is not whole")
        workers = workers_of(condition.engine)
        target, victim = self.chance.choice(
            [
                ("engine", condition.engine),
                *(("worker", worker) for worker in workers),
                *((FAR, 0), (FAR, 0)),
            ]
        )
        local = ("kill", "stop")
        kinds = {"engine": local, "worker": local, FAR: (*local, "cut")}
        kind = self.chance.choice(kinds[target])
        number = signal.SIGKILL if kind == "kill" else signal.SIGSTOP
        if target == FAR:
            await self._break_far(kind, number)
        else:
            await self._happens(kind, target, lambda: os.kill(victim, number))

    async def _break_far(self, kind: str, number: signal.Signals) -> None:
        far, link = self.parts.far, self.parts.link
        await self._happens(kind, FAR, link.cut if kind == "cut" else lambda: far.send(number))
        starting = asyncio.create_task(far.start()) if kind == "kill" else None
        await asyncio.sleep(QUIET_SECONDS)
        if starting is not None:
            await starting

        def mend() -> None:
            if kind == "cut":
                link.mend()
            elif kind == "stop":
                far.send(signal.SIGCONT)

        await self._happens("return", FAR, mend)

    async def _happens(self, kind: str, target: str, act: Callable[[], None]) -> None:
        """Do one thing, and wait until every stream that it held up moves in another engine."""
        before = (await self.parts.condition()).engine
        under_way = set(self.answers.heard)
        self.answers.gaps.clear()

        def is_over(now: Condition) -> bool:
            nonlocal under_way
            if now.engine == before:
                under_way = set(self.answers.heard)
            return now.engine not in {0, before} and (now.is_whole or kind != "return")

        act()
        asking = asyncio.create_task(self._ask_later()) if kind == "return" else None
        try:
            await self._until(is_over, f"{kind} of the {target}: no engine follows")
        finally:
            is_asked = asking is not None and asking.done()
            if asking is not None:
                asking.cancel()
        moved, heard = time.monotonic(), self.answers.heard
        under_way &= set(heard)
        while any(heard[stream] <= moved for stream in under_way & set(heard)):
            if time.monotonic() > moved + HANG_SECONDS:
                self.answers.failures[f"{kind} of the {target}: streams stand still"] += 1
                break
            await asyncio.sleep(_TICK_SECONDS)
        gaps = self.answers.gaps
        pauses = tuple(gaps[stream] for stream in under_way if stream in gaps)
        self.events.append(Event(kind, target, pauses, is_asked))

    async def _ask_later(self) -> None:
        """Tell the server that the far worker is mended, if it did not look in time."""
        await asyncio.sleep(_BY_ITSELF_SECONDS)
        while True:
            await self.parts.take_back("far")
            await asyncio.sleep(1.0)

    async def _until(self, is_so: Callable[[Condition], object], problem: str) -> Condition:
        """Wait for a condition of the server; one that does not come is a failure."""
        began = time.monotonic()
        while True:
            condition = await self.parts.condition()
            if is_so(condition):
                return condition
            if time.monotonic() > began + HANG_SECONDS:
                self.answers.failures[problem] += 1
                return condition
            await asyncio.sleep(_TICK_SECONDS)


def two_stages(model: str) -> str:
    """A plan of a local and a far worker for a decoder, as text."""
    layers = open_model(model).decoder_configuration().num_layers
    stages = (Stage(0, layers // 2, ("cpu",)), Stage(layers // 2, layers, ("far",)))
    return print_plan(
        Plan(model=model, model_fingerprint="", num_layers=layers, replicas=(Replica(stages),))
    )


@asynccontextmanager
async def drilled_server(model: str, clients: int) -> AsyncIterator[Parts]:
    """Lend a server of two stages, with the worker behind its link."""
    with tempfile.TemporaryDirectory() as folder:
        plan, inventory, secret = (Path(folder) / name for name in ("plan", "inventory", "secret"))
        plan.write_text(two_stages(model), encoding="utf-8")
        inventory.write_text(INVENTORY, encoding="utf-8")
        async with (
            far_worker(secret) as far,
            cuttable_link(far.port) as link,
            our_server(
                model,
                *("--plan", str(plan), "--plan-devices", str(inventory), "--allow-drain"),
                *("--plan-worker", f"far=tcp://127.0.0.1:{link.port}"),
                *("--plan-worker", "cpu=process:cpu", "--plan-secret", str(secret)),
                *("--served-model-name", "drilled", "--dtype", "float32", "--threads", "1"),
                *("--max-model-len", "512", "--max-num-seqs", str(clients)),
            ) as server,
            httpx.AsyncClient() as client,
        ):
            yield Parts(server.url, far, link, client)


async def drill_server(
    model: str, *, num_events: int, clients: int, seed: int, say: Say = lambda _: None
) -> Verdict:
    """Start a server and a worker, drill them and stop them.

    Args:
        model: its directory.
        num_events: faults.
        clients: streams at a time.
        seed: of what is broken.
        say: told the verdict after every event.
    """
    async with (
        drilled_server(model, clients) as parts,
        AsyncOpenAI(base_url=f"{parts.url}/v1", api_key="none", max_retries=0) as sdk,
    ):
        drill = Drill(parts, Answers(sdk), random.Random(seed), num_events)
        await drill.answers.give_alone()
        async with asyncio.TaskGroup() as tasks:
            for number in range(clients):
                tasks.create_task(drill.answers.client(number))
            for _ in range(num_events):
                await asyncio.sleep(QUIET_SECONDS + drill.chance.random() / 2)
                await drill.break_one()
                say(drill.verdict)
            drill.answers.ends = True
        say(drill.verdict)
        return drill.verdict


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=str(SEEDLING))
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="file of runs; this one is its last line")
    parser.add_argument("--report", type=Path, help="print the last run of a file instead")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Drill a server and judge it; 0 when the bar holds."""
    options = _parse(arguments)
    if options.report is not None:
        lines = options.report.read_text(encoding="utf-8").splitlines()
        return _judge(read_record(json.loads(lines[-1])))
    seen = Verdict(options.events, 0)
    kept = KeptRun(options.keep, facts_of(options))
    began = time.monotonic()

    def say(verdict: Verdict) -> None:
        nonlocal seen
        seen = verdict
        kept.write(verdict)
        print(f"{time.monotonic() - began:6.0f} s  {progress_of(verdict)}", flush=True)

    async def drill() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        await drill_server(
            options.model,
            num_events=options.events,
            clients=options.clients,
            seed=options.seed,
            say=say,
        )

    with suppress(asyncio.CancelledError):
        asyncio.run(drill())
    return _judge(seen)


def progress_of(verdict: Verdict) -> str:
    """One line about the newest event."""
    wrong = sum(verdict.failures.values())
    median = "none" if verdict.median_pause is None else f"{verdict.median_pause:.2f} s"
    event = verdict.events[-1]
    pause = "no stream" if event.pause is None else f"{event.pause:.2f} s"
    return (
        f"{verdict.num_faults}/{verdict.num_wanted} {event.name}: {pause}; median of faults "
        f"{median}; {verdict.whole} answers whole, {wrong} not"
    )


def _judge(verdict: Verdict) -> int:
    for line in verdict.lines():
        print(line, flush=True)
    return int(not verdict.holds)


def facts_of(options: argparse.Namespace) -> dict[str, object]:
    """What a run is, before it begins."""
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M"),
        **commit_facts(),
        **machine_facts(),
        "model": Path(options.model).name,
        "clients": options.clients,
        "seed": options.seed,
    }


if __name__ == "__main__":
    sys.exit(main())
