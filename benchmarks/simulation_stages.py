"""The simulator beside a real engine of two stages: the same requests, served and simulated.

    python -m benchmarks.simulation_stages [--load 0.3 0.6 0.8] [--seconds 4] [--rounds 3] [--keep]
    python -m benchmarks.simulation_stages --report benchmarks/history/simulation_stages.jsonl

Each stage is a worker with one thread on a core of its own, with half of the layers, and two steps
are under way. Costs are fitted to steps of other requests, served in turns with those that are
compared (`benchmarks.stage_fit`); the simulator gets these costs and the limits of the engine. Time
is that of the clock, since workers wait for each other; nothing else should run on the machine.
`--keep` adds a line to the history, with the times of all requests and the fitted costs.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import PendingRun
from banyan.engine.engine import Engine
from banyan.engine.runner import StepModel
from banyan.planner.costs import StepShape
from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.model_shape import LayerShape, ModelShape
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.simulation.fleet import SimulationOptions, simulate
from banyan.planner.simulation.replicas import EnginePolicy
from banyan.planner.simulation.stage_costs import BLOCK_TOKENS
from banyan.planner.simulation.trace import Trace, made_trace
from benchmarks.shaped_model import ModelSize, write_model
from benchmarks.simulation import (
    LENGTHS,
    SEATS,
    TOKEN_BUDGET,
    Served,
    Times,
    Watched,
    compare,
    serve,
    shape_of,
)
from benchmarks.slice import append_record, commit_facts, machine_facts
from benchmarks.stage_fit import NotedStep, StageFit, fit_stages
from benchmarks.staged_serving import engine_of, opened, plan_text

SIZE = ModelSize(layers=8, hidden=768, intermediate=2304, heads=12, kv_heads=4)
STAGES = (Stage(0, 4, ("cpu",)), Stage(4, 8, ("cpu#1",)))
LENGTH = LENGTHS.longest_prompt + LENGTHS.longest_answer
HISTORY = Path(__file__).parent / "history" / "simulation_stages.jsonl"


@dataclass(frozen=True, slots=True)
class _Noted:
    """A step under way that tells its watcher when it is finished."""

    watcher: "WatchedStages"
    shape: StepShape
    began: float
    run: PendingRun

    def finish(self) -> Mapping[str, NDArray[Any]]:
        """See `PendingRun`."""
        results = self.run.finish()
        self.watcher.noted.append(NotedStep(self.began, time.perf_counter(), self.shape))
        return results


class WatchedStages(Watched):
    """A model of several stages whose steps are noted when they are finished.

    Attributes:
        noted: steps since it was emptied.
    """

    def __init__(self, model: StepModel) -> None:
        super().__init__(model)
        self.noted: list[NotedStep] = []

    @property
    def num_in_flight(self) -> int:
        """As many as there are stages."""
        return len(STAGES)

    def begin(self, arguments: Mapping[str, NDArray[Any]]) -> PendingRun:
        """Start a step."""
        began = time.perf_counter()
        return _Noted(self, shape_of(arguments), began, self._model.begin(arguments))


@dataclass(frozen=True, slots=True)
class _Real:
    """The engine that is measured."""

    engine: Engine
    watched: WatchedStages
    num_blocks: int

    def serve(self, trace: Trace, seed: int) -> Served:
        """Send requests at their times."""
        self.watched.noted = []
        return serve(self.engine, self.watched, trace, seed=seed, clock=time.perf_counter)

    def capacity(self) -> float:
        """Requests a second that it answers with all places taken."""
        full = made_trace(1e4, 0.04, LENGTHS, seed=1)
        burst = Trace(full.arrival[:48] * 0.0, full.prompt[:48], full.answer[:48])
        self.serve(burst, 0)
        most = self.serve(burst, 1).times
        return most.tokens_per_second / float(np.mean(burst.answer))


@dataclass(frozen=True, slots=True)
class Measured:
    """A load, served.

    Attributes:
        load: share of what the engine can do.
        num_blocks: of its KV cache.
        served: what came of the requests, round by round.
        fit: costs, from steps of other requests.
    """

    load: float
    num_blocks: int
    served: Sequence[Served]
    fit: StageFit

    def record(self) -> dict[str, Any]:
        """As a line of the history; times in tenths of milliseconds."""
        rounds = [
            {
                "arrival": _tenths(one.trace.arrival),
                "prompt": one.trace.prompt.tolist(),
                "answer": one.trace.answer.tolist(),
                "first": _tenths(one.first),
                "end": _tenths(one.end),
            }
            for one in self.served
        ]
        facts = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **commit_facts()}
        return {
            **facts,
            **machine_facts(),
            "load": self.load,
            "num_blocks": self.num_blocks,
            "fit": asdict(self.fit),
            "rounds": rounds,
        }

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Measured":
        """What a line of the history says."""
        served = []
        for one in record["rounds"]:
            arrival, first, end = (np.array(one[n]) / 1e4 for n in ("arrival", "first", "end"))
            prompt, answer = (np.array(one[name], np.int32) for name in ("prompt", "answer"))
            served.append(Served(Trace(arrival, prompt, answer), first, end))
        return Measured(record["load"], record["num_blocks"], served, StageFit(**record["fit"]))


def _tenths(seconds: NDArray[np.float64]) -> list[int]:
    return np.rint(seconds * 1e4).astype(int).tolist()  # type: ignore[no-any-return]


def simulated(trace: Trace, fit: StageFit, num_blocks: int) -> Times:
    """What the simulator says of the same requests."""
    layer = LayerShape(dense_weights=1, attention_width=1, cache_width=1)
    model = ModelShape(
        name="measured",
        hidden_size=1,
        layers=(layer,) * SIZE.layers,
        vocab_size=1,
        tied_embeddings=True,
    )
    kind = DeviceType(
        name="here",
        vendor="here",
        memory_bytes=num_blocks * BLOCK_TOKENS,
        read_bytes_per_second=1.0,
        operations_per_second={"bfloat16": 1.0},
    )
    devices = tuple(PlannedDevice(stage.devices[0], kind, "here") for stage in STAGES)
    plan = Plan(
        model="measured",
        model_fingerprint=model.fingerprint,
        num_layers=SIZE.layers,
        replicas=(Replica(STAGES),),
    )
    policy = EnginePolicy(token_budget=TOKEN_BUDGET, max_running=SEATS, memory_share=1.0)
    result = simulate(
        plan,
        model,
        # From stage to stage and back: the engine's own time. What links cost is in the steps.
        Inventory(devices=devices, within_host=Link(1e30, fit.pause / len(STAGES))),
        fit.cost(together=False),
        trace,
        options=SimulationOptions(policy=policy),
        together=fit.cost(together=True),
    )
    return Times.of(trace, result.first_token, result.finished)


@contextmanager
def _real() -> Iterator[_Real]:
    cores = {stage.devices[0]: core for core, stage in enumerate(STAGES)}
    with tempfile.TemporaryDirectory() as folder:
        model, plan = write_model(Path(folder), SIZE), plan_text(*STAGES)
        with opened(model, plan, seats=SEATS, length=LENGTH, cores=cores) as loaded:
            watched = WatchedStages(loaded.executable)
            engine = engine_of(loaded, watched, seats=SEATS, budget=TOKEN_BUDGET)
            yield _Real(engine, watched, loaded.engine.limits.num_blocks)
            engine.close()


def measure(loads: Sequence[float], seconds: float, rounds: int) -> list[Measured]:
    """Serve requests at several loads; learning and serving take turns."""
    noted: list[NotedStep] = []
    served: dict[float, list[Served]] = {load: [] for load in loads}
    with _real() as real:
        capacity = real.capacity()
        print(f"{capacity:.2f} requests/s with all {SEATS} places taken")
        for number in range(rounds):
            for load in loads:
                rate = load * capacity
                real.serve(made_trace(rate, seconds, LENGTHS, seed=100 + number), number)
                noted += real.watched.noted
                asked = made_trace(rate, seconds, LENGTHS, seed=200 + number)
                served[load].append(real.serve(asked, 300 + number))
        num_blocks = real.num_blocks
    fit = fit_stages(noted)
    return [Measured(load, num_blocks, served[load], fit) for load in loads]


def report(measured: Sequence[Measured]) -> None:
    """Simulate what was served, and print both."""
    for kind, numbers in measured[0].fit.numbers.items():
        print(kind, ", ".join(f"{name} {value:.3g}" for name, value in numbers.items()))
    print(f"{'load':>5} {'':24}{'engine':>10}{'simulator':>10}{'difference':>11}")
    for one in measured:
        found = [simulated(served.trace, one.fit, one.num_blocks) for served in one.served]
        compare(one.load, Times.mean([served.times for served in one.served]), Times.mean(found))


def main() -> None:
    """Serve and simulate the same requests at several loads."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--load", type=float, nargs="+", default=[0.3, 0.6, 0.8])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--report", type=Path)
    asked = parser.parse_args()
    if asked.report:
        report([Measured.of(json.loads(line)) for line in asked.report.read_text().splitlines()])
        return
    measured = measure(asked.load, asked.seconds, asked.rounds)
    if asked.keep:
        for one in measured:
            append_record(HISTORY, one.record())
    report(measured)


if __name__ == "__main__":
    main()
