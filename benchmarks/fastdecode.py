"""FastDecode's schedule on two cores: attention and cache on one, the dense layers on the other.

    python -m benchmarks.fastdecode [--parts 4 8 16 32] [--rounds 1]

The S-worker (dense layers) and the R-worker (attention, KV cache) are processes of their own, each
with one thread on one core; the engine shares the core of the S-worker. B answers of S tokens are
under way. Arms, on one engine model:

- alternating: a step begins when the one in front of it is over, so one worker always waits;
- together: several steps under way, all answers begin and end together (unstabilised);
- S/F = 4, 8, ...: several steps under way, a micro-batch of B F / S answers begins every F
  steps, where the load control lets it (`banyan.planner.load_control`).

Bars: the peak of cached tokens beside that of `together` within 3 % of (1 + F/S) / 2; throughput at
least 1.6 times alternating and 1.1 times together.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from banyan.engine.engine import Engine
from banyan.engine.scheduling.pipeline_depth import FixedDepth, PipelineDepth
from banyan.engine.starting.load_choice import choose_depth
from banyan.engine.starting.loading import LoadedModel
from banyan.planner.load_control import LoadControl, MicroBatch, micro_batch_size
from banyan.planner.plan import Stage
from benchmarks.shaped_model import ModelSize, write_model
from benchmarks.staged_serving import (
    InFlight,
    Served,
    Together,
    engine_of,
    opened,
    plan_text,
    serve,
)

ALTERNATING_STEPS = 36
PEAK_WITHIN, OVER_ALTERNATING, OVER_TOGETHER = 0.03, 1.6, 1.1


@dataclass(slots=True)
class Controlled:
    """Micro-batches as the load control lets them begin."""

    size: int
    answer: int
    control: LoadControl
    due: int = field(init=False, default=0)

    def __call__(self, round_: int) -> int:
        """How many begin."""
        started = 0
        batch = MicroBatch(self.size, self.answer)
        while self.control.earliest_start(batch, round_) <= round_:
            self.control = self.control.start(batch, round_)
            started += self.size
        return started


@dataclass(frozen=True, slots=True)
class Arm:
    """What one arm reached: tokens per second, and the most tokens in the cache."""

    tokens_per_second: float
    peak: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--parts", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--flights", type=int, help="steps under way; found by the engine itself")
    parser.add_argument("--answer", type=int, default=576)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--intermediate", type=int, default=256)
    asked = parser.parse_args()
    size = ModelSize(
        layers=asked.layers,
        hidden=1024,
        intermediate=asked.intermediate,
        heads=8,
        kv_heads=8,
        head_dim=128,
        vocab=1024,
    )
    os.sched_setaffinity(0, {0})
    plan = plan_text(Stage(0, size.layers, ("cpu",), attention=("cpu#1",)))
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), size)
        length = asked.answer + 16
        cores = {"cpu": 0, "cpu#1": 1}
        with opened(model, plan, seats=asked.batch, length=length, cores=cores) as loaded:
            rounds = [_round(loaded, asked) for _ in range(asked.rounds)]
    _report(rounds, asked)


def _round(loaded: LoadedModel, asked: argparse.Namespace) -> Mapping[str, Arm]:
    batch, answer = asked.batch, asked.answer
    step = loaded.executable
    alone = engine_of(loaded, InFlight(step, 1), seats=batch, budget=2048)
    depth = FixedDepth(asked.flights) if asked.flights else choose_depth(step)
    both = engine_of(loaded, step, seats=batch, depth=depth)
    found = {"alternating": _alternating(alone, batch, answer)}
    whole = batch * answer
    served = serve(both, Together(batch, answer), answer=answer, most_tokens=whole)
    found["together"] = Arm(served.tokens_per_second(batch, whole), max(served.cached))
    _tell("together", found["together"], served, depth)
    for parts in asked.parts:
        interval = answer // parts
        size = micro_batch_size(batch, answer, interval)
        control = LoadControl(batch * (answer + interval) // 2, interval=interval)
        # The first micro-batch ends after `answer` steps; until then fewer are under way.
        ramp = whole * (parts + 1) // (2 * parts)
        starts = Controlled(size, answer, control)
        served = serve(both, starts, answer=answer, most_tokens=ramp + whole)
        name = f"S/F = {parts}"
        found[name] = Arm(served.tokens_per_second(ramp, ramp + whole), max(served.cached))
        _tell(name, found[name], served, depth)
    alone.close()
    both.close()
    return found


def _alternating(engine: Engine, batch: int, answer: int) -> Arm:
    """At the mean context, where a step takes the mean time: attention is linear in it."""
    prompt = answer // 2 - ALTERNATING_STEPS
    served = serve(
        engine,
        Together(batch, answer),
        answer=answer - prompt,
        most_tokens=2 * batch * ALTERNATING_STEPS,
        prompt=prompt,
    )
    # By then every prompt is computed.
    begun = batch * ALTERNATING_STEPS
    found = Arm(served.tokens_per_second(begun, served.tokens[-1]), max(served.cached))
    _tell("alternating", found, served, FixedDepth(1))
    return found


def _tell(name: str, arm: Arm, served: Served, depth: PipelineDepth) -> None:
    print(
        f"{name:12} {arm.tokens_per_second:8.0f} tokens/s, at most {arm.peak} tokens cached, "
        f"{served.seconds[-1]:.1f} s; {depth.current} under way at the end; busy: "
        + ", ".join(f"{place} {share:.0%}" for place, share in served.busy.items()),
        flush=True,
    )


def _report(rounds: Sequence[Mapping[str, Arm]], asked: argparse.Namespace) -> None:
    print(
        f"{'':12}{'alternating':>12}{'together':>10}{'peak':>8}{'(1 + F/S) / 2':>15}   "
        "times; share of the peak of together"
    )
    missed = []
    for parts in asked.parts:
        name = f"S/F = {parts}"
        alternating, together = (
            statistics.median(
                r[name].tokens_per_second / r[other].tokens_per_second for r in rounds
            )
            for other in ("alternating", "together")
        )
        peak = max(r[name].peak / r["together"].peak for r in rounds)
        wanted = (1 + 1 / parts) / 2
        print(f"{name:12}{alternating:12.2f}{together:10.2f}{peak:8.3f}{wanted:15.3f}")
        if alternating < OVER_ALTERNATING or together < OVER_TOGETHER:
            missed.append(f"throughput of {name}")
        if abs(peak / wanted - 1) > PEAK_WITHIN:
            missed.append(f"peak of {name}")
    print("missed: " + ", ".join(missed) if missed else "every bar holds")


if __name__ == "__main__":
    main()
