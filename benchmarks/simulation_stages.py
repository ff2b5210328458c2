"""The simulator beside a real engine of two stages: the same requests, served and simulated.

    python -m benchmarks.simulation_stages [--load 0.3 0.6 0.8] [--seconds 4] [--rounds 2]

Each stage is a worker with one thread on a core of its own, with half of the layers, and two steps
are under way. A cost model is fitted to steps (`benchmarks.simulation`): from one end of a step to
the next, times the steps that were under way; each stage takes half of that. Other requests are
then served and simulated: the simulator cuts each step into two and pipelines them. Time is that
of the clock, since workers wait for each other; nothing else should run on the machine.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import PendingRun
from banyan.engine.engine import Engine
from banyan.engine.runner import StepModel
from banyan.models.configuration import ModelConfiguration
from banyan.planner.costs import Part, StepShape
from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.model_shape import ModelShape, model_shape
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.simulation.fleet import SimulationOptions, simulate
from banyan.planner.simulation.replicas import EnginePolicy
from banyan.planner.simulation.trace import Trace, made_trace
from benchmarks.shaped_model import ModelSize, write_model
from benchmarks.simulation import (
    LENGTHS,
    SEATS,
    TOKEN_BUDGET,
    FittedCost,
    Measured,
    Times,
    Watched,
    compare,
    serve,
    shape_of,
)
from benchmarks.staged_serving import engine_of, opened, plan_text

SIZE = ModelSize(layers=8, hidden=768, intermediate=2304, heads=12, kv_heads=4)
STAGES = (Stage(0, 4, ("cpu",)), Stage(4, 8, ("cpu#1",)))
LENGTH = LENGTHS.longest_prompt + LENGTHS.longest_answer


@dataclass(frozen=True, slots=True)
class _Noted:
    """A step under way that tells its watcher when it is finished."""

    watcher: "WatchedStages"
    shape: StepShape
    run: PendingRun

    def finish(self) -> Mapping[str, NDArray[Any]]:
        """See `PendingRun`."""
        results = self.run.finish()
        self.watcher.note(self.shape)
        return results


class WatchedStages(Watched):
    """A model of several stages whose steps are noted when they are finished."""

    def __init__(self, model: StepModel) -> None:
        super().__init__(model)
        self._under_way = 0

    @property
    def num_in_flight(self) -> int:
        """As many as there are stages."""
        return len(STAGES)

    def begin(self, arguments: Mapping[str, NDArray[Any]]) -> PendingRun:
        """Start a step."""
        self._under_way += 1
        return _Noted(self, shape_of(arguments), self._model.begin(arguments))

    def note(self, shape: StepShape) -> None:
        """A step is finished."""
        self.last, self.at_once = shape, self._under_way
        self._under_way -= 1


@dataclass(frozen=True, slots=True)
class SharedCost:
    """The fitted time of a step through all stages, shared by them.

    Attributes:
        fitted: for whole steps.
    """

    fitted: FittedCost

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        """Seconds of a stage: all have the same."""
        return self.fitted.step_seconds(model, part, device, step) / len(STAGES)

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        """Nothing: memory counts tokens of the cache alone."""
        return 0.0

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        """One byte: memory counts tokens."""
        return 1.0


def simulated(
    trace: Trace, configuration: ModelConfiguration, steps: Sequence[Measured], num_blocks: int
) -> Times:
    """What the simulator says of the same requests."""
    model = model_shape(configuration, "measured")
    kind = DeviceType(
        name="here",
        vendor="here",
        memory_bytes=num_blocks * 16,
        read_bytes_per_second=1.0,
        operations_per_second={"bfloat16": 1.0},
    )
    devices = tuple(PlannedDevice(stage.devices[0], kind, "here") for stage in STAGES)
    plan = Plan(
        model="measured",
        model_fingerprint=model.fingerprint,
        num_layers=len(model.layers),
        replicas=(Replica(STAGES),),
    )
    policy = EnginePolicy(token_budget=TOKEN_BUDGET, max_running=SEATS, memory_share=1.0)
    result = simulate(
        plan,
        model,
        # What handing over costs is in the steps that were measured.
        Inventory(devices=devices, within_host=Link(1e15)),
        SharedCost(FittedCost(steps)),
        trace,
        options=SimulationOptions(policy=policy),
    )
    return Times.of(trace, result.first_token, result.finished)


def main() -> None:
    """Serve and simulate the same requests at several loads."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--load", type=float, nargs="+", default=[0.3, 0.6, 0.8])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    cores = {stage.devices[0]: core for core, stage in enumerate(STAGES)}
    with tempfile.TemporaryDirectory() as folder:
        model, plan = write_model(Path(folder), SIZE), plan_text(*STAGES)
        with opened(model, plan, seats=SEATS, length=LENGTH, cores=cores) as loaded:
            watched = WatchedStages(loaded.executable)
            engine = engine_of(loaded, watched, seats=SEATS, budget=TOKEN_BUDGET)
            blocks = loaded.engine.limits.num_blocks
            configuration = loaded.directory.decoder_configuration()
            capacity = _capacity(engine, watched)
            print(f"{capacity:.2f} requests/s with all {SEATS} places taken")
            print(f"{'load':>5} {'':24}{'engine':>10}{'simulator':>10}{'difference':>11}")
            for load in asked.load:
                real, traces, steps = [], [], list[Measured]()
                for number in range(asked.rounds):
                    rate = load * capacity
                    learnt = made_trace(rate, asked.seconds, LENGTHS, seed=100 + number)
                    steps += _timed(engine, watched, learnt, number)[1]
                    traces.append(made_trace(rate, asked.seconds, LENGTHS, seed=200 + number))
                    real.append(_timed(engine, watched, traces[-1], 300 + number)[0])
                found = [simulated(trace, configuration, steps, blocks) for trace in traces]
                compare(load, Times.mean(real), Times.mean(found))
            engine.close()


def _capacity(engine: Engine, watched: WatchedStages) -> float:
    """Requests a second that it answers with all places taken."""
    full = made_trace(1e4, 0.04, LENGTHS, seed=1)
    burst = Trace(full.arrival[:48] * 0.0, full.prompt[:48], full.answer[:48])
    _timed(engine, watched, burst, 0)
    most, _ = _timed(engine, watched, burst, 1)
    return most.tokens_per_second / float(np.mean(burst.answer))


def _timed(
    engine: Engine, watched: Watched, trace: Trace, seed: int
) -> tuple[Times, list[Measured]]:
    return serve(engine, watched, trace, seed=seed, clock=time.perf_counter)


if __name__ == "__main__":
    main()
