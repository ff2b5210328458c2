"""The simulator beside the engine: the same requests, served and simulated.

    python -m benchmarks.simulation [--model DIR] [--load 0.3 0.6 0.8] [--seconds 4]

Loads a model, measures steps of its engine, fits a cost model to them, and serves random requests
(a Poisson process, all lengths mixed) in this process while their times are noted. The simulator
gets the same requests, the limits of the engine and the fitted costs. Both sides are printed with
the difference. Steps are measured on other requests than those that are compared, in turns with
them. One thread; time is what this process computes, so that other programs do not count.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
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
from banyan.planner.costs import Part, StepShape
from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.model_shape import ModelShape, model_shape
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.simulation.fleet import SimulationOptions, simulate
from banyan.planner.simulation.replicas import EnginePolicy
from banyan.planner.simulation.stage_costs import BLOCK_TOKENS
from banyan.planner.simulation.trace import Lengths, Trace, made_trace

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
ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """One step of the engine: what it computed, and how long it took."""

    shape: StepShape
    seconds: float


class Watched(StepModel):
    """A model whose steps are noted on the way.

    Attributes:
        last: the step that was computed last.
    """

    def __init__(self, model: StepModel) -> None:
        self._model = model
        self.last: StepShape | None = None

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Compute a step."""
        self.last = shape_of(arguments)
        return self._model.run(arguments)


def shape_of(arguments: Mapping[str, NDArray[Any]]) -> StepShape:
    """A step as the planner sees it."""
    ends, starts = arguments["context_lengths"], arguments["query_starts"]
    counts = np.diff(starts).astype(np.int64)
    before = ends - counts
    pairs = counts * before + counts * (counts + 1) // 2
    rows = len(arguments["logit_rows"])
    return StepShape(int(counts.sum()), rows, float(ends.sum()), float(pairs.sum()))


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


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """What came of the requests of a trace.

    Attributes:
        trace: the requests.
        first, end: float64 [R] seconds since the first could come, without idle times.
        steps: that were computed, where they were watched.
    """

    trace: Trace
    first: NDArray[np.float64]
    end: NDArray[np.float64]
    steps: Sequence[Measured] = ()

    @property
    def times(self) -> "Times":
        """In short."""
        return Times.of(self.trace, self.first, self.end)


@dataclass(frozen=True, slots=True)
class Times:
    """What requests saw.

    Attributes:
        ttft, tpot: means over the requests, seconds.
        gap: mean over all tokens behind the first, seconds.
        tokens_per_second: of answers, from the first arrival to the last answer.
    """

    ttft: float
    tpot: float
    gap: float
    tokens_per_second: float

    @staticmethod
    def of(trace: Trace, first: NDArray[np.float64], end: NDArray[np.float64]) -> "Times":
        """Sum up the times of requests that all were answered."""
        many = trace.answer > 1
        later, spans = trace.answer[many] - 1, (end - first)[many]
        seconds = float(end.max() - trace.arrival.min())
        return Times(
            float((first - trace.arrival).mean()),
            float((spans / later).mean()),
            float(spans.sum() / later.sum()),
            float(trace.answer.sum()) / seconds,
        )

    @staticmethod
    def mean(rounds: Sequence["Times"]) -> "Times":
        """Of several runs."""
        return Times(*np.mean([astuple(one) for one in rounds], axis=0).tolist())


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
    engine: Engine,
    watched: Watched,
    trace: Trace,
    *,
    seed: int,
    clock: Callable[[], float] = time.process_time,
) -> Served:
    """Send the requests of a trace at their times.

    The clock leaps over idle times. Unless told otherwise it counts what this process computes,
    with one thread: what else runs on the machine takes time from nobody.
    """
    chance = np.random.default_rng(seed)
    prompts = [chance.integers(10, 400, int(size)).tolist() for size in trace.prompt]
    first = np.full(len(trace), np.nan)
    end = np.full(len(trace), np.nan)
    steps: list[Measured] = []
    coming, begun = 0, clock()
    while coming < len(trace) or engine.has_work():
        now = clock() - begun
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
        after = clock() - begun
        if watched.last is not None:
            # From the arrivals on: whatever the loop does between two steps belongs to a step.
            steps.append(Measured(watched.last, after - now))
        for event in events:
            number = int(event.request_id)
            if np.isnan(first[number]):
                first[number] = after
            if event.finish_reason is not None:
                end[number] = after
    return Served(trace, first, end, steps)


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
        most = serve(engine, watched, burst, seed=1).times
        capacity = most.tokens_per_second / float(burst.answer.mean())
        print(f"{capacity:.2f} requests/s with all {SEATS} places taken")
        print(f"{'load':>5} {'':24}{'engine':>10}{'simulator':>10}{'difference':>11}")
        for load in loads:
            real, traces, steps = [], [], list[Measured]()
            for number in range(ROUNDS):
                # Learning and serving take turns: a machine that slows down meets both.
                learnt = made_trace(load * capacity, seconds, LENGTHS, seed=100 + number)
                steps += serve(engine, watched, learnt, seed=number).steps
                traces.append(made_trace(load * capacity, seconds, LENGTHS, seed=200 + number))
                real.append(serve(engine, watched, traces[-1], seed=300 + number).times)
            found = [simulated(trace, configuration, steps) for trace in traces]
            compare(load, Times.mean(real), Times.mean(found))


def compare(load: float, real: Times, found: Times) -> None:
    """Print what the engine and its simulation gave at a load."""
    rows = (
        ("time to first token ms", 1e3 * real.ttft, 1e3 * found.ttft),
        ("time per output token ms", 1e3 * real.tpot, 1e3 * found.tpot),
        ("time between tokens ms", 1e3 * real.gap, 1e3 * found.gap),
        ("tokens/s", real.tokens_per_second, found.tokens_per_second),
    )
    for name, one, other in rows:
        print(f"{load:5.2f} {name:24}{one:10.2f}{other:10.2f}{100 * (other / one - 1):+10.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SEEDLING)
    parser.add_argument("--load", type=float, nargs="+", default=[0.3, 0.6, 0.8])
    parser.add_argument("--seconds", type=float, default=4.0)
    chosen = parser.parse_args()
    agreement(chosen.model, chosen.load, chosen.seconds)


if __name__ == "__main__":
    main()
