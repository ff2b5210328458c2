"""The simulator beside a real engine of two stages: the same requests, served and simulated.

    python -m benchmarks.simulation_stages [--load 0.3 0.6 0.8] [--seconds 4] [--rounds 2]

Each stage is a worker with one thread on a core of its own. Steps that run one at a time are
measured and a cost model is fitted to them (`benchmarks.simulation`), each stage with the share of
the time that its weights have of all. Then other requests are served with two steps under way, and
simulated from the same costs: the simulator cuts each step into two and pipelines them. Time is
that of the clock, since workers wait for each other; nothing else should run on the machine.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from banyan.engine.engine import Engine
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
)
from benchmarks.staged_serving import InFlight, engine_of, opened, plan_text

SIZE = ModelSize(layers=8, hidden=768, intermediate=2304, heads=12, kv_heads=4)
STAGES = (Stage(0, 4, ("cpu",)), Stage(4, 8, ("cpu#1",)))
LENGTH = LENGTHS.longest_prompt + LENGTHS.longest_answer


class Unwatched(Watched):
    """Served as it is: which step an answer came of is not asked."""

    def __init__(self) -> None:
        self.last = None


@dataclass(frozen=True, slots=True)
class SharedCost:
    """The fitted time of a whole step, shared by the stages.

    Attributes:
        fitted: for whole steps.
    """

    fitted: FittedCost

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        """Seconds of a stage: the share that its weights have."""
        share = _weights(model, part) / _weights(model, Part(0, len(model.layers)))
        return share * self.fitted.step_seconds(model, part, device, step)

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        """Nothing: memory counts tokens of the cache alone."""
        return 0.0

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        """One byte: memory counts tokens."""
        return 1.0


def _weights(model: ModelShape, part: Part) -> float:
    """Numbers that a token is multiplied by."""
    head = model.vocab_size * model.hidden_size * (part.end_layer == len(model.layers))
    return head + sum(layer.weights for layer in model.layers[part.first_layer : part.end_layer])


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
            watched = Watched(loaded.executable)
            alone = engine_of(loaded, watched, seats=SEATS, budget=TOKEN_BUDGET)
            staged = InFlight(loaded.executable, len(STAGES))
            both = engine_of(loaded, staged, seats=SEATS, budget=TOKEN_BUDGET)
            blocks = loaded.engine.limits.num_blocks
            configuration = loaded.directory.decoder_configuration()
            capacity = _capacity(both)
            print(f"{capacity:.2f} requests/s with all {SEATS} places taken")
            print(f"{'load':>5} {'':24}{'engine':>10}{'simulator':>10}{'difference':>11}")
            for load in asked.load:
                real, traces, steps = [], [], list[Measured]()
                for number in range(asked.rounds):
                    rate = load * capacity
                    learnt = made_trace(rate, asked.seconds, LENGTHS, seed=100 + number)
                    steps += _timed(alone, watched, learnt, number)[1]
                    traces.append(made_trace(rate, asked.seconds, LENGTHS, seed=200 + number))
                    real.append(_timed(both, Unwatched(), traces[-1], 300 + number)[0])
                found = [simulated(trace, configuration, steps, blocks) for trace in traces]
                compare(load, Times.mean(real), Times.mean(found))
            alone.close()
            both.close()


def _capacity(engine: Engine) -> float:
    """Requests a second that it answers with all places taken."""
    full = made_trace(1e4, 0.04, LENGTHS, seed=1)
    burst = Trace(full.arrival[:48] * 0.0, full.prompt[:48], full.answer[:48])
    _timed(engine, Unwatched(), burst, 0)
    most, _ = _timed(engine, Unwatched(), burst, 1)
    return most.tokens_per_second / float(np.mean(burst.answer))


def _timed(
    engine: Engine, watched: Watched, trace: Trace, seed: int
) -> tuple[Times, list[Measured]]:
    return serve(engine, watched, trace, seed=seed, clock=time.perf_counter)


if __name__ == "__main__":
    main()
