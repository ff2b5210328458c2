"""Kill and stop parts of a served model under load, again and again, and look at every token.

    python -m benchmarks.drills [--model DIR] [--events 100] [--clients 32] [--seed 0] [--keep]

Starts a server of a model that is cut over two workers, in float32. Clients stream greedy answers
all the time; each is compared with the answer the same server gave alone. Every few seconds chance
picks a worker or the engine and kills it (SIGKILL) or stops it (SIGSTOP, never continued). An
answer that lacks, repeats or changes a token, ends in an error or hangs makes the run fail. Prints
how long streams paused: of each event the median over the streams under way, and of all events the
median and the longest, by kind.
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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from openai import AsyncOpenAI

from banyan.models.loading import open_model
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from benchmarks.serving.our_server import our_server
from benchmarks.slice import append_record, commit_facts, machine_facts

ROOT = Path(__file__).parent.parent
SEEDLING = ROOT / "models" / "seedling"
HISTORY = ROOT / "benchmarks" / "history" / "drills.jsonl"
NUM_PROMPTS = 8
HANG_SECONDS = 60.0
QUIET_SECONDS = 1.5
"""Between the end of one drill, when all streams move again, and the next."""


@dataclass(frozen=True, slots=True)
class Event:
    """One drill.

    Attributes:
        kind: "kill" or "stop".
        target: "engine" or "worker".
        pauses: seconds without a token, of each stream that was under way.
    """

    kind: str
    target: str
    pauses: tuple[float, ...]


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

    async def event(self, server: int, chance: random.Random) -> Event:
        """Do one thing to one process, and wait until every stream that was under way moves."""
        engine = newest_child(server)
        workers = children_of(engine)
        target, victim = chance.choice(
            [("engine", engine), *(("worker", worker) for worker in workers)]
        )
        # A stopped engine is told from a slow one after minutes; its drill is another test's.
        kind = "kill" if target == "engine" else chance.choice(("kill", "stop"))
        under_way = set(self.heard)
        self.gaps.clear()
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
        await asyncio.sleep(0.3)
        while newest_child(server) == engine or any(
            self.heard[stream] < began + 0.3 for stream in under_way & set(self.heard)
        ):
            if time.monotonic() > began + HANG_SECONDS:
                self.failures[f"{kind} of the {target}: streams stand still"] += 1
                break
            await asyncio.sleep(0.02)
        pauses = tuple(self.gaps[stream] for stream in under_way if stream in self.gaps)
        return Event(kind, target, pauses)


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
    """A plan of two workers for a decoder, as text."""
    layers = open_model(model).decoder_configuration().num_layers
    stages = (Stage(0, layers // 2, ("cpu",)), Stage(layers // 2, layers, ("cpu#1",)))
    return print_plan(
        Plan(model=model, model_fingerprint="", num_layers=layers, replicas=(Replica(stages),))
    )


async def drill_server(
    model: str, *, num_events: int, clients: int, seed: int
) -> tuple[Drill, list[Event]]:
    """Start a server, drill it and stop it."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.toml"
        plan.write_text(two_stages(model), encoding="utf-8")
        async with our_server(
            model,
            *("--plan", str(plan), "--served-model-name", "drilled", "--dtype", "float32"),
            *("--threads", "1", "--max-model-len", "512", "--max-num-seqs", str(clients)),
        ) as server:
            return await drill_at(server.url, server.process_id, num_events, clients, seed)


async def drill_at(
    url: str, server: int, num_events: int, clients: int, seed: int
) -> tuple[Drill, list[Event]]:
    """Drill a server that runs."""
    chance = random.Random(seed)
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
        drill = Drill(sdk)
        drill.expected = [await drill.answer(prompt) for prompt in range(NUM_PROMPTS)]
        drill.heard.clear()
        events: list[Event] = []
        async with asyncio.TaskGroup() as tasks:
            for number in range(clients):
                tasks.create_task(drill.client(number))
            for _ in range(num_events):
                await asyncio.sleep(QUIET_SECONDS + chance.random())
                events.append(await drill.event(server, chance))
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
            by_kind.setdefault("all", []).append(pause)
    for kind, pauses in sorted(by_kind.items()):
        middle, longest = statistics.median(pauses), max(pauses)
        print(f"{kind:<20} {len(pauses):4} events, pause {middle:.2f} s, longest {longest:.2f} s")
    if options.keep:
        append_record(HISTORY, record_of(drill, events, options))
    return int(bool(drill.failures) or len(events) < options.events)


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
