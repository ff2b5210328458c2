"""The simulator: how fast it is, and how near it comes to the engine.

    python -m benchmarks.simulation scale [--devices 100000] [--rate 1000] [--seconds 3600]
    python -m benchmarks.simulation agreement [--model DIR] [--load 0.3 0.6 0.8] [--seconds 12]

`scale` simulates a 70B model on three kinds of described cards: one card a replica, two that cut
its tensors, or a pipeline of four, and prints the time on one core, the events and the memory.

`agreement` loads a model, measures steps of its engine, fits a cost model to them, and then serves
random requests (a Poisson process, all lengths mixed) in this process while their times are noted.
The simulator gets the same requests, the limits of the engine and the fitted costs. Both sides are
printed with the difference: time to first token, time per output token, tokens per second.
Steps are measured before each load, on other requests than those that are compared. One thread;
time is what this process computes, so that other programs do not count.
"""

import argparse
import os
import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.engine.engine import Engine
from banyan.engine.options import EngineLimits, EngineOptions
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import LoadedModel, load_model
from banyan.foundation.settings import load_settings
from banyan.models.configuration import ModelConfiguration
from banyan.planner.costs import Part, RooflineCost, StepShape
from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.model_shape import LayerShape, ModelShape, model_shape
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.simulation.fleet import SimulationOptions, simulate
from banyan.planner.simulation.picture import summary_lines
from banyan.planner.simulation.replicas import EnginePolicy
from banyan.planner.simulation.result import figures
from banyan.planner.simulation.stage_costs import BLOCK_TOKENS
from banyan.planner.simulation.trace import MIXES, Lengths, Trace, made_trace
from banyan.planner.workload import Goal

SEEDLING = Path(__file__).parent.parent / "models" / "seedling"
SEATS, TOKEN_BUDGET, NUM_BLOCKS = 16, 256, 1024
LENGTHS = Lengths(
    prompt=120,
    answer=60,
    prompt_spread=0.8,
    answer_spread=0.7,
    longest_prompt=700,
    longest_answer=300,
)
_LARGE = 70e9


@dataclass(frozen=True, slots=True)
class Measured:
    """One step of the engine: what it computed, and how long it took."""

    shape: StepShape
    seconds: float


class Watched:
    """A model whose steps are noted on the way."""

    def __init__(self, model: StepModel) -> None:
        self._model = model
        self.last: StepShape | None = None

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Compute a step."""
        ends, starts = arguments["context_lengths"], arguments["query_starts"]
        counts = np.diff(starts).astype(np.int64)
        before = ends - counts
        pairs = counts * before + counts * (counts + 1) // 2
        rows = len(arguments["logit_rows"])
        self.last = StepShape(int(counts.sum()), rows, float(ends.sum()), float(pairs.sum()))
        return self._model.run(arguments)


class FittedCost:
    """A straight line through measured steps, bent by one factor for each number of tokens.

    Steps with more than 16 tokens share a factor with those within the same power of two; steps
    with and without prompts have factors of their own.

    Args:
        steps: that were measured.
    """

    def __init__(self, steps: Sequence[Measured]) -> None:
        rows = np.array([_features(step.shape) for step in steps])
        seconds = np.array([step.seconds for step in steps])
        kept = list(range(rows.shape[1]))
        while True:
            found, *_ = np.linalg.lstsq(
                rows[:, kept] / seconds[:, None], np.ones(len(seconds)), rcond=None
            )
            if (found >= 0).all():
                break
            del kept[int(found.argmin())]
        self._weights = np.zeros(rows.shape[1])
        self._weights[kept] = found
        ratios: dict[tuple[bool, int], list[float]] = {}
        for step, straight in zip(steps, rows @ self._weights, strict=True):
            ratios.setdefault(_kind(step.shape), []).append(step.seconds / straight)
        # The mean, not the median: what is to agree is the sum of many steps.
        self._factors = {kind: float(np.mean(row)) for kind, row in ratios.items()}

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        """Seconds of the whole step; there is one device and one part."""
        straight = float(np.dot(_features(step), self._weights))
        return straight * self._factor(_kind(step))

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        """Nothing: the limits of the engine are given as a memory for the cache alone."""
        return 0.0

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        """One byte: memory counts tokens."""
        return 1.0

    def _factor(self, kind: tuple[bool, int]) -> float:
        if kind not in self._factors:
            # Factors differ little from one number of tokens to the next.
            nearest = min(
                self._factors, key=lambda known: (known[0] != kind[0], abs(known[1] - kind[1]))
            )
            self._factors[kind] = self._factors[nearest]
        return self._factors[kind]


def _kind(step: StepShape) -> tuple[bool, int]:
    """Whether a step has prompts, and its tokens, beyond 16 by powers of two."""
    tokens = step.num_tokens
    return step.num_rows < tokens, tokens if tokens <= 16 else 12 + tokens.bit_length()


def _features(step: StepShape) -> tuple[float, ...]:
    return (1.0, step.num_tokens, step.num_rows, step.cached_tokens, step.attended_pairs)


@dataclass(frozen=True, slots=True)
class Times:
    """What requests saw.

    Attributes:
        ttft, tpot: means over the requests, seconds.
        tokens_per_second: of answers, from the first arrival to the last answer.
    """

    ttft: float
    tpot: float
    tokens_per_second: float

    @staticmethod
    def of(trace: Trace, first: NDArray[np.float64], end: NDArray[np.float64]) -> "Times":
        """Sum up the times of requests that all were answered."""
        many = trace.answer > 1
        per_token = (end - first)[many] / (trace.answer[many] - 1)
        seconds = float(end.max() - trace.arrival.min())
        return Times(
            float((first - trace.arrival).mean()),
            float(per_token.mean()),
            float(trace.answer.sum()) / seconds,
        )


def watched_engine(loaded: LoadedModel) -> tuple[Engine, Watched]:
    """An engine like the loaded one that tells its steps; it shares the model's cache."""
    watched = Watched(loaded.executable)
    limits = EngineLimits(
        max_model_len=loaded.engine.limits.max_model_len,
        max_num_seqs=SEATS,
        token_budget=TOKEN_BUDGET,
        num_blocks=loaded.engine.limits.num_blocks,
    )
    engine = Engine(
        watched,
        limits,
        vocab_size=loaded.engine.vocab_size,
        tokenizer=loaded.directory.tokenizer,
        enable_prefix_caching=False,
    )
    return engine, watched


def serve(
    engine: Engine, watched: Watched, trace: Trace, *, seed: int
) -> tuple[Times, list[Measured]]:
    """Send the requests of a trace at their times; returns what they saw, and the steps.

    The clock counts what this process computes, with one thread, and leaps over idle times: what
    else runs on the machine takes time from nobody.
    """
    chance = np.random.default_rng(seed)
    prompts = [chance.integers(10, 400, int(size)).tolist() for size in trace.prompt]
    first = np.full(len(trace), np.nan)
    end = np.full(len(trace), np.nan)
    steps: list[Measured] = []
    coming, begun = 0, time.process_time()
    while coming < len(trace) or engine.has_work():
        now = time.process_time() - begun
        if not engine.has_work() and trace.arrival[coming] > now:
            begun -= trace.arrival[coming] - now
            now = trace.arrival[coming]
        while coming < len(trace) and trace.arrival[coming] <= now:
            options = SamplingOptions(
                temperature=0.0, max_tokens=int(trace.answer[coming]), ignore_eos=True
            )
            engine.add_request(str(coming), prompts[coming], options)
            coming += 1
        watched.last = None
        events = engine.step()
        after = time.process_time() - begun
        if watched.last is not None:
            # From the arrivals on: whatever the loop does between two steps belongs to a step.
            steps.append(Measured(watched.last, after - now))
        for event in events:
            number = int(event.request_id)
            if np.isnan(first[number]):
                first[number] = after
            if event.finish_reason is not None:
                end[number] = after
    return Times.of(trace, first, end), steps


def simulated(trace: Trace, configuration: ModelConfiguration, steps: Sequence[Measured]) -> Times:
    """What the simulator says of the same requests."""
    model = model_shape(configuration, "measured")
    memory = NUM_BLOCKS * BLOCK_TOKENS
    kind = DeviceType(
        name="here",
        vendor="here",
        memory_bytes=memory,
        read_bytes_per_second=1.0,
        operations_per_second={"bfloat16": 1.0},
    )
    inventory = Inventory(devices=(PlannedDevice("here", kind, "here"),), within_host=Link(1.0))
    num_layers = len(model.layers)
    plan = Plan(
        model="measured",
        model_fingerprint=model.fingerprint,
        num_layers=num_layers,
        replicas=(Replica((Stage(0, num_layers, ("here",)),)),),
    )
    policy = EnginePolicy(token_budget=TOKEN_BUDGET, max_running=SEATS, memory_share=1.0)
    result = simulate(
        plan,
        model,
        inventory,
        FittedCost(steps),
        trace,
        options=SimulationOptions(policy=policy),
    )
    return Times.of(trace, result.first_token, result.finished)


def agreement(path: Path, loads: Sequence[float], seconds: float) -> None:
    """Serve and simulate the same requests at several loads."""
    options = EngineOptions(
        threads=1, max_num_seqs=SEATS, max_num_batched_tokens=TOKEN_BUDGET, num_blocks=NUM_BLOCKS
    )
    with closing(load_model(str(path), options, settings=load_settings(os.environ))) as loaded:
        configuration = loaded.directory.decoder_configuration()
        full = made_trace(1e4, seconds / 1e2, LENGTHS, seed=1)
        burst = Trace(full.arrival[:48] * 0.0, full.prompt[:48], full.answer[:48])
        engine, watched = watched_engine(loaded)
        serve(engine, watched, burst, seed=0)
        most, _ = serve(engine, watched, burst, seed=1)
        capacity = most.tokens_per_second / float(burst.answer.mean())
        print(f"{capacity:.2f} requests/s with all {SEATS} places taken")
        print(f"{'load':>5} {'':24}{'engine':>10}{'simulator':>10}{'difference':>11}")
        for load in loads:
            rate = load * capacity
            learnt = made_trace(rate, seconds, LENGTHS, seed=2)
            _, steps = serve(engine, watched, learnt, seed=2)
            _, more = serve(engine, watched, burst, seed=3)
            trace = made_trace(rate, seconds, LENGTHS, seed=4)
            real, _ = serve(engine, watched, trace, seed=4)
            _compare(load, real, simulated(trace, configuration, [*steps, *more]))


def _compare(load: float, real: Times, found: Times) -> None:
    rows = (
        ("time to first token ms", 1e3 * real.ttft, 1e3 * found.ttft),
        ("time per output token ms", 1e3 * real.tpot, 1e3 * found.tpot),
        ("tokens/s", real.tokens_per_second, found.tokens_per_second),
    )
    for name, one, other in rows:
        print(f"{load:5.2f} {name:24}{one:10.2f}{other:10.2f}{100 * (other / one - 1):+10.1f} %")


def large_fleet(num_devices: int) -> tuple[ModelShape, Inventory, Plan]:
    """A 70B model with weights in 8 bits on cards of three sizes, described."""
    layer = LayerShape(dense_weights=int(_LARGE / 80), attention_width=8192, cache_width=2048)
    model = ModelShape(
        name="70b",
        hidden_size=8192,
        layers=(layer,) * 80,
        vocab_size=128256,
        tied_embeddings=False,
        weight_dtype="int8",
    )
    kinds = (
        _card("141 GB", 141e9, 4.8e12, 9.9e14),
        _card("80 GB", 80e9, 2.0e12, 3.1e14),
        _card("24 GB", 24e9, 3.0e11, 1.2e14),
    )
    fifth = num_devices // 5
    counts = (fifth, 2 * fifth, num_devices - 3 * fifth)
    devices: list[PlannedDevice] = []
    replicas: list[Replica] = []
    for kind, count, together in zip(kinds, counts, (1, 2, 4), strict=True):
        names = [f"{kind.name}-{number}" for number in range(count)]
        for number, name in enumerate(names):
            devices.append(PlannedDevice(name, kind, f"{kind.name} host {number // 8}"))
        for start in range(0, count - together + 1, together):
            group = names[start : start + together]
            if together == 4:
                stages = tuple(Stage(20 * n, 20 * n + 20, (name,)) for n, name in enumerate(group))
            else:
                stages = (Stage(0, 80, tuple(group)),)
            replicas.append(Replica(stages))
    inventory = Inventory(
        devices=tuple(devices),
        within_host=Link(2e11, 5e-6),
        between_hosts=Link(2.5e10, 2e-5),
        price_per_hour={"141 GB": 3.5, "80 GB": 1.8, "24 GB": 0.4},
    )
    plan = Plan(
        model=model.name,
        model_fingerprint=model.fingerprint,
        num_layers=80,
        replicas=tuple(replicas),
    )
    return model, inventory, plan


def _card(name: str, memory: float, bandwidth: float, operations: float) -> DeviceType:
    return DeviceType(
        name=name,
        vendor="described",
        memory_bytes=int(memory),
        read_bytes_per_second=bandwidth,
        operations_per_second={"bfloat16": operations},
        launch_seconds=5e-6,
    )


def scale(num_devices: int, rate: float, seconds: float) -> None:
    """Simulate a large fleet and print what that took."""
    model, inventory, plan = large_fleet(num_devices)
    begun = time.process_time()
    trace = made_trace(rate, seconds, MIXES["chat"], seed=0)
    made = time.process_time()
    result = simulate(plan, model, inventory, RooflineCost(), trace)
    done = time.process_time()
    found = figures(result, inventory, Goal())
    for line in summary_lines(found):
        print(line)
    for name, row in found.milliseconds.items():
        print(name, ", ".join(f"{column} {value:.1f} ms" for column, value in row.items()))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{num_devices} devices, {len(plan.replicas)} replicas, {len(trace)} requests, "
        f"{result.num_events} events: {made - begun:.1f} s to make the requests, "
        f"{done - made:.1f} s to simulate them, "
        f"{time.process_time() - done:.1f} s to sum up, at most {memory:.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    large = commands.add_parser("scale")
    large.add_argument("--devices", type=int, default=100_000)
    large.add_argument("--rate", type=float, default=1000.0)
    large.add_argument("--seconds", type=float, default=3600.0)
    near = commands.add_parser("agreement")
    near.add_argument("--model", type=Path, default=SEEDLING)
    near.add_argument("--load", type=float, nargs="+", default=[0.3, 0.6, 0.8])
    near.add_argument("--seconds", type=float, default=12.0)
    chosen = parser.parse_args()
    if chosen.command == "scale":
        scale(chosen.devices, chosen.rate, chosen.seconds)
    else:
        agreement(chosen.model, chosen.load, chosen.seconds)


if __name__ == "__main__":
    main()
