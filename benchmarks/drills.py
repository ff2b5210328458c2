"""Kill, stop and cut off parts of a served model under load, and look at every token.

    python -m benchmarks.drills [--model DIR] [--events 100] [--clients 32] [--seed 0] [--keep]

Starts a server of a model that is cut over two workers, in float32: one is a process of this host,
the other listens behind a TCP link that can be cut. Clients stream greedy answers all the time;
each is compared with the answer the same server gave alone. Every few seconds chance picks a part
and kills it (SIGKILL), stops it (SIGSTOP) or cuts the link. The server replaces a local part. The
far worker stays away until streams move again on what is left; then it comes back, and the drill
ends when it has its layers again. An answer that lacks, repeats or changes a token, ends in an
error or hangs makes the run fail. Prints how long streams paused: of each event the median over
the streams under way, and of all faults the median and the longest, by kind; taking the far worker
back is counted apart.
"""

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
from openai import AsyncOpenAI

from banyan.models.loading import open_model
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from benchmarks.drilling.far_worker import FarWorker, far_worker
from benchmarks.drilling.link import CuttableLink, cuttable_link
from benchmarks.serving.our_server import our_server
from benchmarks.slice import append_record, commit_facts, machine_facts

ROOT = Path(__file__).parent.parent
SEEDLING = ROOT / "models" / "seedling"
HISTORY = ROOT / "benchmarks" / "history" / "drills.jsonl"
NUM_PROMPTS = 8
HANG_SECONDS = 150.0
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
QUIET_SECONDS = 1.5
"""Between the end of one drill, when all streams move again, and the next."""


@dataclass(frozen=True, slots=True)
class Event:
    """One drill.

    Attributes:
        kind: "kill", "stop", "cut" or, of the far worker when it may come back, "return".
        target: "engine", "worker" or "far worker".
        pauses: seconds without a token, of each stream that was under way.
    """

    kind: str
    target: str
    pauses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """What can be broken.

    Attributes:
        url: of the server.
        server: its process.
        far: the worker that listens.
        link: to it.
    """

    url: str
    server: int
    far: FarWorker
    link: CuttableLink

    async def far_is_used(self) -> bool:
        """Whether the far worker has layers now."""
        async with httpx.AsyncClient() as client:
            reply = await client.get(f"{self.url}/v1/admin/devices", timeout=HANG_SECONDS)
        return any(each["name"] == "far" and each["is_used"] for each in reply.json()["devices"])


@dataclass(slots=True)
class Drill:
    """A run: what it asks and what it sees.

    Attributes:
        sdk: of the server.
        expected: by prompt, the answer given alone.
        whole: answers that were whole and right.
        failures: what must not happen.
        heard: by stream under way, when its last piece came.
        gaps: by stream, its longest silence since the last event.
        ends: when clients stop asking.
    """

    sdk: AsyncOpenAI
    expected: list[str] = field(default_factory=list)
    whole: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    heard: dict[int, float] = field(default_factory=dict)
    gaps: dict[int, float] = field(default_factory=dict)
    ends: bool = False

    async def answer(self, prompt: int, stream_id: int = -1) -> str:
        """Stream one greedy answer; the pieces' times are kept under `stream_id`."""
        pieces = await self.sdk.completions.create(
            model="drilled",
            prompt=f"{'A banyan is a tree. ' * prompt}Leaf {prompt}:",
            max_tokens=120 + 10 * prompt,
            temperature=0,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        text = ""
        async for piece in pieces:
            now = time.monotonic()
            silence = now - self.heard.get(stream_id, now)
            self.gaps[stream_id] = max(silence, self.gaps.get(stream_id, 0.0))
            self.heard[stream_id] = now
            text += piece.choices[0].text
        return text

    async def client(self, number: int) -> None:
        """Ask, compare, ask again."""
        turn = 0
        while not self.ends:
            prompt = (number + turn) % NUM_PROMPTS
            stream_id = number + 1000 * turn
            try:
                async with asyncio.timeout(HANG_SECONDS):
                    text = await self.answer(prompt, stream_id)
            except TimeoutError:
                self.failures["hung"] += 1
            except Exception as error:  # whatever a reader sees counts
                self.failures[f"{type(error).__name__}: {error}"[:160]] += 1
                await asyncio.sleep(0.2)
            else:
                self.whole += text == self.expected[prompt]
                if text != self.expected[prompt]:
                    self.failures[told_difference(text, self.expected[prompt])] += 1
            self.heard.pop(stream_id, None)
            turn += 1

    async def events(self, parts: Parts, chance: random.Random) -> list[Event]:
        """Break one part, and mend it where nobody else does."""
        engine = newest_child(parts.server)
        workers = children_of(engine)
        target, victim = chance.choice(
            [("engine", engine), *(("worker", worker) for worker in workers), (FAR, 0), (FAR, 0)]
        )
        # A stopped engine is told from a slow one after minutes; its drill is another test's.
        kinds = {"engine": ("kill",), "worker": ("kill", "stop"), FAR: ("kill", "stop", "cut")}
        kind = chance.choice(kinds[target])
        number = signal.SIGKILL if kind == "kill" else signal.SIGSTOP
        if target != FAR:
            return [await self._event(kind, target, parts, lambda: os.kill(victim, number))]
        broken = await self._event(
            kind, FAR, parts, parts.link.cut if kind == "cut" else lambda: parts.far.send(number)
        )
        await asyncio.sleep(QUIET_SECONDS)
        if kind == "kill":
            await parts.far.start()
        mended = await self._event("return", FAR, parts, lambda: _mend(kind, parts))
        began = time.monotonic()
        while not await parts.far_is_used():
            if time.monotonic() > began + HANG_SECONDS:
                self.failures[f"{kind} of the far worker: it is not taken back"] += 1
                break
            await asyncio.sleep(0.05)
        return [broken, mended]

    async def _event(self, kind: str, target: str, parts: Parts, act: Callable[[], None]) -> Event:
        """Do one thing, and wait until every stream that it held up moves in another engine."""
        engine = newest_child(parts.server)
        self.gaps.clear()
        began, ended = time.monotonic(), float("inf")
        under_way: set[int] = set()
        act()
        while ended == float("inf") or any(
            self.heard[stream] <= ended for stream in under_way & set(self.heard)
        ):
            if ended == float("inf") and engine not in children_of(parts.server):
                # What it said last may still be on its way to the readers.
                ended, under_way = time.monotonic() + 0.1, set(self.heard)
            if time.monotonic() > began + HANG_SECONDS:
                self.failures[f"{kind} of the {target}: streams stand still"] += 1
                break
            await asyncio.sleep(0.02)
        pauses = tuple(self.gaps[stream] for stream in under_way if stream in self.gaps)
        middle = statistics.median(pauses) if pauses else 0.0
        print(f"{kind} of the {target}: {middle:.2f} s", file=sys.stderr, flush=True)
        return Event(kind, target, pauses)


def _mend(kind: str, parts: Parts) -> None:
    if kind == "cut":
        parts.link.mend()
    elif kind == "stop":
        parts.far.send(signal.SIGCONT)


def told_difference(text: str, wanted: str) -> str:
    """Where an answer leaves what it should be."""
    if wanted.startswith(text):
        return "tokens lost at the end"
    place = next((n for n, (a, b) in enumerate(zip(text, wanted, strict=False)) if a != b), -1)
    return f"another text than alone, from character {place}"


def children_of(process_id: int) -> list[int]:
    """The children that are alive, whichever thread started them."""
    found = []
    for task in Path(f"/proc/{process_id}/task").glob("*"):
        with suppress(OSError):
            found += [int(number) for number in (task / "children").read_text().split()]
    return sorted(found)


def newest_child(process_id: int) -> int:
    """The engine that was started last; 0 while there is none."""
    return max(children_of(process_id), default=0)


def two_stages(model: str) -> str:
    """A plan of a local and a far worker for a decoder, as text."""
    layers = open_model(model).decoder_configuration().num_layers
    stages = (Stage(0, layers // 2, ("cpu",)), Stage(layers // 2, layers, ("far",)))
    return print_plan(
        Plan(model=model, model_fingerprint="", num_layers=layers, replicas=(Replica(stages),))
    )


async def drill_server(
    model: str, *, num_events: int, clients: int, seed: int
) -> tuple[Drill, list[Event]]:
    """Start a server and a worker, drill them and stop them."""
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
        ):
            parts = Parts(server.url, server.process_id, far, link)
            return await drill_at(parts, num_events, clients, seed)


async def drill_at(
    parts: Parts, num_events: int, clients: int, seed: int
) -> tuple[Drill, list[Event]]:
    """Drill a server that runs."""
    chance = random.Random(seed)
    async with AsyncOpenAI(base_url=f"{parts.url}/v1", api_key="none", max_retries=0) as sdk:
        drill = Drill(sdk)
        drill.expected = [await drill.answer(prompt) for prompt in range(NUM_PROMPTS)]
        drill.heard.clear()
        events: list[Event] = []
        async with asyncio.TaskGroup() as tasks:
            for number in range(clients):
                tasks.create_task(drill.client(number))
            for _ in range(num_events):
                await asyncio.sleep(QUIET_SECONDS + chance.random())
                events += await drill.events(parts, chance)
            drill.ends = True
        return drill, events


def main(arguments: Sequence[str] | None = None) -> int:
    """Drill a server and judge it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=str(SEEDLING))
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="append the run to the history")
    options = parser.parse_args(arguments)
    drill, events = asyncio.run(
        drill_server(
            options.model, num_events=options.events, clients=options.clients, seed=options.seed
        )
    )
    print(f"{drill.whole} answers whole and right, {sum(drill.failures.values())} not")
    for failure, count in drill.failures.most_common():
        print(f"FAILED {count} x: {failure}")
    by_kind: dict[str, list[float]] = {}
    for event in events:
        if event.pauses:
            pause = statistics.median(event.pauses)
            by_kind.setdefault(f"{event.kind} of the {event.target}", []).append(pause)
            group = "all returns" if event.kind == "return" else "all faults"
            by_kind.setdefault(group, []).append(pause)
    for kind, pauses in sorted(by_kind.items()):
        middle, longest = statistics.median(pauses), max(pauses)
        print(f"{kind:<26} {len(pauses):4} events, pause {middle:.2f} s, longest {longest:.2f} s")
    if options.keep:
        append_record(HISTORY, record_of(drill, events, options))
    faults = sum(event.kind != "return" for event in events)
    return int(bool(drill.failures) or faults < options.events)


def record_of(
    drill: Drill, events: Sequence[Event], options: argparse.Namespace
) -> dict[str, object]:
    """Everything worth keeping of one run."""
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M"),
        **commit_facts(),
        **machine_facts(),
        "model": Path(options.model).name,
        "clients": options.clients,
        "seed": options.seed,
        "whole": drill.whole,
        "failures": dict(drill.failures),
        "events": [asdict(event) for event in events],
    }


if __name__ == "__main__":
    sys.exit(main())
