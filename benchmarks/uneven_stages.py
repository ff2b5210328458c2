"""Two stages of speeds 1 and 1/2: the split that the planner takes from profiles, and all others.

    python -m benchmarks.uneven_stages [--speed 0.5] [--rounds 2] [--profiles FILE]

Each stage is a worker with one thread on a core of its own; the second is stopped for a share of
every two milliseconds. A process on the same core, slowed down in the same way, measures a profile
(`benchmarks.calibration`); the planner splits the layers from both profiles. Then every split is
served: answers written at once through the engine, rounds of all splits in turn. `--profiles` keeps
the profiles in a file, or takes them from there.

Bars: the planner's split gives at least 1.35 times the even split, and 95 % of the best.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from banyan.compiler.options import CompileOptions
from banyan.devices.discovery import find_device
from banyan.engine.starting.load_choice import choose_depth
from banyan.foundation.settings import load_settings
from banyan.models.loading import open_model
from banyan.planner.costs import Part
from banyan.planner.inventory import Inventory, Link, PlannedDevice
from banyan.planner.model_shape import model_shape
from banyan.planner.plan import Stage
from banyan.planner.prediction.measured_cost import MeasuredCost
from banyan.planner.prediction.rates import DeviceRates, rates_table, read_rates
from banyan.planner.report import PlanningChoices
from banyan.planner.serving import plan_serving
from banyan.planner.workload import Workload
from benchmarks.calibration import CalibrationPlan, open_calibration
from benchmarks.shaped_model import ModelSize, write_model
from benchmarks.staged_serving import (
    Together,
    engine_of,
    opened,
    pin,
    plan_text,
    serve,
    workers,
)
from benchmarks.throttle import throttled

SIZE = ModelSize(layers=12, hidden=768, intermediate=2304, heads=12, kv_heads=2)
CORES = {"fast": 0, "slow": 1}
BATCH, ANSWER = 128, 40
OVER_EVEN, OF_BEST = 1.35, 0.95
LINK = Link(2e9, 1e-4)
PROBES = CalibrationPlan(
    forms=("bfloat16",),
    output_forms=("bfloat16",),
    cache_forms=("bfloat16",),
    rows=(1, 8, 16, 32, 64, 128),
    products=((2304, 768),),
    outputs=((40_960, 768),),
    heads=((12, 2, 64),),
    repeats=24,
    steps=((1, 1, 63), (16, 1, 63), (64, 1, 63), (64, 1, 255), (1, 16, 0), (1, 64, 0)),
)


def main() -> None:
    """Measure, plan, try all splits and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--speed", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--profiles", type=Path)
    parser.add_argument("--splits", type=int, nargs="+", default=list(range(1, SIZE.layers)))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(rates_table(_measured(asked.measure))))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), SIZE)
        profiles = _profiles(asked)
        stages = planned(model, profiles)
        print(f"planned: {', '.join(f'{s.num_layers} layers on {s.devices[0]}' for s in stages)}")
        order = tuple(stage.devices[0] for stage in stages)
        rounds = [
            {k: _served(model, order, k, asked.speed) for k in asked.splits}
            for _ in range(asked.rounds)
        ]
    _report(rounds, stages[0].num_layers)


def _profiles(asked: argparse.Namespace) -> Mapping[str, DeviceRates]:
    if asked.profiles and asked.profiles.exists():
        kept = json.loads(asked.profiles.read_text())
    else:
        kept = {"fast": _profile("fast", 1.0), "slow": _profile("slow", asked.speed)}
        if asked.profiles:
            asked.profiles.write_text(json.dumps(kept))
    return {name: read_rates(table) for name, table in kept.items()}


def _profile(place: str, speed: float) -> object:
    """What a process on the core of a place measures, slowed down once its programs are ready."""
    command = [sys.executable, "-m", "benchmarks.uneven_stages", "--measure", place]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        pin(process.pid, CORES[place])
        with throttled(process.pid, speed):
            process.stdin.write("measure\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())


def _measured(place: str) -> DeviceRates:
    settings = load_settings(os.environ)
    device = find_device("cpu", settings=settings, num_threads=1)
    options = CompileOptions(settings.cache_directory, settings.compiler_command)
    calibration = open_calibration(device, PROBES, options)
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(3):
        calibration.run_pass()
    rates = calibration.rates(
        place, vendor="cpu", memory_bytes=4 * 10**9, read_bytes_per_second=1e10
    )
    device.close()
    return rates


def planned(model: Path, profiles: Mapping[str, DeviceRates]) -> Sequence[Stage]:
    """The stages that the planner takes for as many tokens as possible."""
    shape = model_shape(open_model(str(model)).decoder_configuration(), "measured")
    costs = MeasuredCost(profiles)
    # Neither holds the whole model, or two replicas would do as well as two stages.
    memory = int(0.9 * costs.weight_bytes(shape, Part(0, SIZE.layers)))
    devices = [
        PlannedDevice(name, replace(rates.device_type(), memory_bytes=memory), "here")
        for name, rates in profiles.items()
    ]
    report = plan_serving(
        shape,
        Inventory(devices=tuple(devices), within_host=LINK),
        Workload(prompt_tokens=1, answer_tokens=ANSWER),
        costs,
        choices=PlanningChoices(memory_share=1.0),
    )
    assert report.plan is not None, report.summary
    print(report.summary)
    return report.plan.replicas[0].stages


def _served(model: Path, order: tuple[str, ...], split: int, speed: float) -> float:
    """Tokens per second with `split` layers in the first stage."""
    plan = plan_text(Stage(0, split, order[:1]), Stage(split, SIZE.layers, order[1:]))
    with opened(model, plan, seats=BATCH, length=ANSWER + 16, cores=CORES) as loaded:
        depth = choose_depth(loaded.executable)
        engine = engine_of(loaded, loaded.executable, seats=BATCH, depth=depth)
        whole = BATCH * ANSWER
        with throttled(workers()["slow"], speed):
            served = serve(engine, Together(BATCH, ANSWER), answer=ANSWER, most_tokens=whole)
        engine.close()
    found = served.tokens_per_second(whole // 8, whole)
    busy = ", ".join(f"{name} {share:.0%}" for name, share in served.busy.items())
    print(f"{split:3} layers on {order[0]}: {found:8.0f} tokens/s; busy: {busy}", flush=True)
    return found


def _report(rounds: Sequence[Mapping[int, float]], chosen: int) -> None:
    even = SIZE.layers // 2
    mean = {split: statistics.median(r[split] for r in rounds) for split in rounds[0]}
    best = max(mean, key=lambda split: mean[split])
    over_even = statistics.median(r[chosen] / r[even] for r in rounds)
    of_best = statistics.median(r[chosen] / r[best] for r in rounds)
    print(f"{'layers':>6} {'tokens/s':>9} {'of the best':>12}")
    for split, rate in mean.items():
        told = " planned" * (split == chosen) + " even" * (split == even)
        print(f"{split:6} {rate:9.0f} {rate / mean[best]:12.3f}{told}")
    print(f"planned beside even: {over_even:.3f} (bar {OVER_EVEN}), beside best: {of_best:.3f}")
    holds = over_even >= OVER_EVEN and of_best >= OF_BEST
    print("every bar holds" if holds else "missed")


if __name__ == "__main__":
    main()
