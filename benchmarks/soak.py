"""Twenty minutes at full load with everything that goes wrong, and whether memory grew.

    python -m benchmarks.soak [--model DIR] [--minutes 20] [--clients 24] [--limit-percent 1]

Starts a server and keeps it full: whole answers, streams, readers who vanish or stall, malformed
requests, and an adapter that comes and goes under ever new names (--adapter DIR; one is made up for
the model otherwise, and --no-adapters leaves them out). Fails when the memory that the server's
processes hold grew by more than the limit after the warm-up (the first quarter), when a request
hung, or when one was answered with a status of 500.
"""

import argparse
import asyncio
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from banyan.models.loading import open_model
from benchmarks.drilling.parts import children_of
from benchmarks.serving.our_server import our_server
from tests.models.adapters.files import make_adapter

SEEDLING = Path(__file__).parent.parent / "models" / "seedling"
OPTIONS = ("--max-model-len", "512", "--max-num-seqs", "16", "--threads", "2")
HANG_SECONDS = 120.0
STOPPED_SECONDS = 10.0
WARM_SHARE = 0.25
VANISHING_ADAPTED = 0.2
"""Of the readers of an adapter's answers, so many hang up before it is dropped."""
MALFORMED: tuple[bytes, ...] = (
    b"{",
    b"[]",
    b'{"model": "soaked"}',
    b'{"model": "soaked", "prompt": "a", "nonsense": 1}',
    b'{"model": "soaked", "prompt": "a", "temperature": -1}',
    b'{"model": "soaked", "prompt": "a", "max_tokens": 100000}',
    b'{"model": "other", "prompt": "a"}',
    b'{"model": "soaked", "prompt": [999999999]}',
    b'{"model": "soaked", "prompt": "a", "logit_bias": {"x": 1}}',
)


@dataclass(frozen=True, slots=True)
class Mark:
    """Bytes of the server's processes at a time in seconds: see `memory_of`."""

    at: float
    resident: int
    own_by_process: tuple[int, ...]

    @property
    def own(self) -> int:
        """What all of them hold themselves."""
        return sum(self.own_by_process)


@dataclass(slots=True)
class Soak:
    """One run: what it does and what it saw.

    Attributes:
        url: of the server.
        process_ids: gives the server's processes as of now.
        adapter: a folder to load and drop, None for none.
        counts: acts by kind and answer.
        failures: what must not happen.
        marks: memory of all processes, every few seconds.
        stops: when it was noticed, on the clock of the event loop, that this process had been
            stopped for a while, and the server probably with it: a laptop that slept, a debugger.
    """

    url: str
    process_ids: Callable[[], list[int]]
    adapter: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)

    async def run(self, seconds: float, *, clients: int, seed: int) -> None:
        """Keep so many clients busy for so long."""
        began = time.monotonic()
        # A kept connection may be closed by the server just when it is used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=HANG_SECONDS, limits=limits) as http:

            async def client(number: int) -> None:
                chance = random.Random(seed * 1000 + number)
                while time.monotonic() - began < seconds:
                    await self.act(http, chance)

            async def watch() -> None:
                pause = max(0.5, seconds / 240)
                due = math.inf
                while (now := time.monotonic()) - began < seconds:
                    if now > due + STOPPED_SECONDS:
                        self.stops.append(now)
                    due = now + pause
                    self.marks.append(Mark(now - began, *memory_of(self.process_ids())))
                    await asyncio.sleep(pause)

            await asyncio.gather(watch(), *(client(number) for number in range(clients)))

    async def act(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        """Do one random thing."""
        acts: list[tuple[int, str, Callable[..., Awaitable[int]]]] = [
            (50, "whole", self.whole),
            (20, "stream", self.stream),
            (15, "vanish", self.vanish),
            (10, "malformed", self.malformed),
            (3, "stall", self.stall),
        ]
        if self.adapter is not None:
            acts.append((4, "adapter", self.churn))
        weights = [weight for weight, _, _ in acts]
        _, name, work = chance.choices(acts, weights)[0]
        begun = time.monotonic()
        try:
            async with asyncio.timeout(HANG_SECONDS):
                status = await work(http, chance)
        except (TimeoutError, httpx.TimeoutException):
            # The clock of a timeout runs on while nobody works; the watch tells of that at once.
            await asyncio.sleep(STOPPED_SECONDS)
            if any(stop >= begun for stop in self.stops):
                self.counts[f"{name} stopped"] += 1
            else:
                self.failures.append(f"{name} hung for {HANG_SECONDS:g} s")
            return
        except httpx.HTTPError as error:
            self.failures.append(f"{name}: {type(error).__name__} {error}")
            return
        self.counts[f"{name} {status}"] += 1
        if status == httpx.codes.INTERNAL_SERVER_ERROR:
            self.failures.append(f"{name} was answered with 500")

    async def whole(self, http: httpx.AsyncClient, chance: random.Random) -> int:
        """Ask and read to the end."""
        return (await http.post(f"{self.url}/v1/completions", json=asked(chance))).status_code

    async def stream(self, http: httpx.AsyncClient, chance: random.Random) -> int:
        """Stream to the end."""
        return await self._read(http, asked(chance), most_lines=10**9, pause=0.0)

    async def vanish(self, http: httpx.AsyncClient, chance: random.Random) -> int:
        """Hang up in the middle."""
        return await self._read(http, asked(chance), most_lines=chance.randint(0, 30), pause=0.0)

    async def stall(self, http: httpx.AsyncClient, chance: random.Random) -> int:
        """Read slowly, then hang up."""
        return await self._read(http, asked(chance), most_lines=20, pause=0.1)

    async def malformed(self, http: httpx.AsyncClient, chance: random.Random) -> int:
        """Ask something that cannot be."""
        body = chance.choice(MALFORMED)
        headers = {"Content-Type": "application/json"}
        answer = await http.post(f"{self.url}/v1/completions", content=body, headers=headers)
        return answer.status_code

    async def churn(self, http: httpx.AsyncClient, chance: random.Random) -> int:
        """Load an adapter under a new name, ask it, and drop it, sometimes in mid-answer."""
        name = f"adapter-{chance.randrange(10**9)}"
        load = {"lora_name": name, "lora_path": self.adapter}
        answer = await http.post(f"{self.url}/v1/load_lora_adapter", json=load)
        if answer.status_code == httpx.codes.OK:
            body = asked(chance) | {"model": name}
            if chance.random() < VANISHING_ADAPTED:
                await self._read(http, body, most_lines=chance.randint(0, 30), pause=0.0)
            else:
                await http.post(f"{self.url}/v1/completions", json=body)
            drop = {"lora_name": name}
            answer = await http.post(f"{self.url}/v1/unload_lora_adapter", json=drop)
        return answer.status_code

    async def _read(
        self, http: httpx.AsyncClient, body: dict[str, object], *, most_lines: int, pause: float
    ) -> int:
        url, num_lines = f"{self.url}/v1/completions", 0
        async with http.stream("POST", url, json=body | {"stream": True}) as answer:
            async for _ in answer.aiter_lines():
                num_lines += 1
                if num_lines >= most_lines:
                    break
                if pause:
                    await asyncio.sleep(pause)
        return answer.status_code

    def growth(self) -> float:
        """How much the processes took after the warm-up, as a share of what was resident then."""
        seconds = self.marks[-1].at
        warm = [mark for mark in self.marks if mark.at >= WARM_SHARE * seconds]
        part = max(1, len(warm) // 5)
        before, after = (
            statistics.median(mark.own for mark in marks) for marks in (warm[:part], warm[-part:])
        )
        return (after - before) / statistics.median(mark.resident for mark in warm[:part])


def asked(chance: random.Random) -> dict[str, object]:
    """A request with random lengths and options."""
    words = " ".join(chance.choice(("tree", "root", "leaf", "river")) for _ in range(120))
    body: dict[str, object] = {
        "model": "soaked",
        "prompt": words[: chance.randint(1, 600)],
        "max_tokens": chance.randint(1, 120),
        "temperature": chance.choice((0, 0.7, 1.0)),
        "n": chance.choice((1, 1, 1, 2)),
        "ignore_eos": True,
    }
    if chance.random() < 0.2:
        body |= {"logprobs": 2, "seed": chance.randrange(1000)}
    if chance.random() < 0.2:
        body |= {"presence_penalty": 0.5, "stop": ["zzz"]}
    return body


def memory_of(process_ids: Iterable[int]) -> tuple[int, tuple[int, ...]]:
    """Bytes of all processes that are resident, and what each holds itself; none for one gone.

    Pages of files are resident too, but the kernel takes them back and reads them again as it
    likes. What the processes hold themselves is the rest, wherever the kernel keeps it.
    """
    resident, own = 0, []
    for process_id in process_ids:
        with suppress(OSError):
            lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
            sizes = {
                name: int(rest.split()[0]) * 1024
                for name, _, rest in (line.partition(":") for line in lines)
                if name in {"VmRSS", "RssAnon", "RssShmem", "VmSwap"}
            }
            resident += sizes["VmRSS"]
            own.append(sizes["RssAnon"] + sizes["RssShmem"] + sizes["VmSwap"])
    return resident, tuple(own)


def family(process_id: int) -> list[int]:
    """A process and its children."""
    return [process_id, *children_of(process_id)]


def made_up_adapter(model: str, folder: Path) -> str:
    """Write an adapter of random numbers on every layer of a decoder, and return where."""
    configuration = open_model(model).decoder_configuration()
    return str(make_adapter(folder / "adapter", configuration, rank=8, size=0.05))


async def soak_server(
    model: str, seconds: float, *, clients: int, seed: int, adapter: str | None
) -> Soak:
    """Start a server, soak it and stop it."""
    more = ("--enable-lora",) if adapter is not None else ()
    async with our_server(model, "--served-model-name", "soaked", *OPTIONS, *more) as server:
        soak = Soak(server.url, lambda: family(server.process_id), adapter)
        await soak.run(seconds, clients=clients, seed=seed)
        return soak


def main() -> int:
    """Soak a server and judge it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(SEEDLING))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--limit-percent", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adapter")
    parser.add_argument("--no-adapters", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        adapter = arguments.adapter
        if adapter is None and not arguments.no_adapters:
            adapter = made_up_adapter(arguments.model, Path(folder))
        soak = asyncio.run(
            soak_server(
                arguments.model,
                60 * arguments.minutes,
                clients=arguments.clients,
                seed=arguments.seed,
                adapter=adapter,
            )
        )
    growth = 100 * soak.growth()
    print(json.dumps(dict(sorted(soak.counts.items())), indent=1))
    for mark in soak.marks[:: max(1, len(soak.marks) // 12)]:
        own = " + ".join(f"{size / 1e6:.1f}" for size in mark.own_by_process)
        print(f"{mark.at:5.0f} s  {mark.resident / 1e6:.1f} MB, their own {own}")
    print(f"growth after the warm-up: {growth:+.2f} % (limit {arguments.limit_percent:g} %)")
    for failure, count in Counter(soak.failures).items():
        print(f"FAILED {count} x: {failure}")
    return int(bool(soak.failures) or growth > arguments.limit_percent)


if __name__ == "__main__":
    sys.exit(main())
