"""Predict the time of steps from a few micro-benchmarks, run them, and print how far off it was.

    python -m benchmarks.prediction [--groups 0 1 ...] [--rounds 3] [--raw FILE] [--report FILE ...]

Probes (`benchmarks.calibration`) run kernels of shapes that none of the models has; then models
with the shapes of Qwen3-0.6B and Llama-3.2-1B and random weights are run in steps nobody measured
before: prompts, answers, mixes, in bfloat16, int8 and int4, of 2 to 6 layers; cut into two stages;
with attention apart. Passes of the probes and runs of the models take turns, so that a slow minute
of the machine meets both. `--raw` adds what was measured to a file, `--report` prints such files
together.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from banyan.compiler.compile import compile_graph
from banyan.compiler.ir.graph import Graph
from banyan.compiler.options import CompileOptions
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.runner import LaneSlice, step_arguments
from banyan.foundation.settings import Settings, load_settings
from banyan.models.configuration import ModelConfiguration, read_configuration
from banyan.models.quantisation.graph import quantize_graph
from banyan.models.quantisation.rounded import RoundingChoice
from banyan.models.step_graph import decoder_step_graph
from banyan.planner.costs import Part
from banyan.planner.inventory import Inventory, Link, PlannedDevice
from banyan.planner.model_shape import ModelShape, model_shape
from banyan.planner.plan import Stage
from banyan.planner.prediction.composition import predict_step
from banyan.planner.prediction.graph_work import graph_work
from banyan.planner.prediction.measured_cost import MeasuredCost
from banyan.planner.prediction.rates import DeviceRates, rates_table, read_rates
from banyan.planner.prediction.work import step_sizes
from benchmarks.calibration import (
    Calibration,
    CalibrationPlan,
    Reference,
    open_calibration,
)
from benchmarks.calibration_values import AnyWeights, fill_states
from benchmarks.prediction_cases import CONFIGURATIONS, GROUPS, Case, Group
from benchmarks.slice import append_record

FEW_TOKENS = 0.02
"""Runs are repeated until they took so many seconds together."""


@dataclass(slots=True)
class Measured:
    """What a case took in each round: the median of its runs."""

    group: Group
    case: Case
    seconds: list[float] = field(default_factory=list)
    references: list[float] = field(default_factory=list)


class Runner:
    """One model whose parts run in turn, as many as its graph was cut into."""

    def __init__(self, group: Group, device: Device, settings: Settings, folder: Path) -> None:
        self.configuration = configuration_of(group, folder)
        self.graph = captured(group, self.configuration, settings)
        options = CompileOptions(settings.cache_directory, settings.compiler_command)
        self.parts = [
            compile_graph(graph, device=device, options=options) for graph in cut(self.graph, group)
        ]
        blocks = max(blocks_of(case) for case in group.cases)
        for part in self.parts:
            part.load_weights(AnyWeights(part))
            if any(argument.role == "state" for argument in part.inputs):
                fill_states(part, blocks)
        self.wanted = [[a.name for a in part.inputs if a.role == "argument"] for part in self.parts]

    def run(self, arguments: Mapping[str, Any]) -> None:
        """One step."""
        values = dict(arguments)
        for part, names in zip(self.parts, self.wanted, strict=True):
            values |= part.run({name: values[name] for name in names})


def folder_of(group: Group, settings: Settings) -> Path:
    """Where the made-up checkpoint of a group is kept."""
    return settings.cache_directory / "prediction" / group.title.replace(" ", "-")


def configuration_of(group: Group, folder: Path) -> ModelConfiguration:
    table = {**CONFIGURATIONS[group.model], "num_hidden_layers": group.layers}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(table))
    found = read_configuration(folder)
    assert isinstance(found, ModelConfiguration)
    return found


def captured(group: Group, configuration: ModelConfiguration, settings: Settings) -> Graph:
    graph = decoder_step_graph(
        configuration,
        dtype="bfloat16",
        cache_format=group.cache,
        cache_directory=settings.cache_directory,
    )
    if group.weights == "bfloat16":
        return graph
    choice = RoundingChoice(group.weights, output="int8")
    return quantize_graph(graph, choice.schemes(graph))


def cut(graph: Graph, group: Group) -> list[Graph]:
    """The graphs of the parts, in the order in which they run."""
    if not group.split:
        return [graph]
    from benchmarks.prediction_cutting import cut_attention, cut_stages  # noqa: PLC0415

    return (
        cut_stages(graph, first_layers(group)) if group.split == "stages" else cut_attention(graph)
    )


def first_layers(group: Group) -> int:
    """Layers of the first of two stages: a third, so that they differ."""
    return max(1, group.layers // 3)


def blocks_of(case: Case) -> int:
    return sum(n * blocks_for(new + past) for n, new, past in case.slices)


def arguments_of(case: Case) -> dict[str, Any]:
    """Sequences that have blocks of their own, all tokens alike."""
    sequences = sum(n for n, _, _ in case.slices)
    longest = max(new + past for _, new, past in case.slices)
    table = SequenceTable(sequences, longest)
    lanes: list[LaneSlice] = []
    first = 0
    for count, new, past in case.slices:
        for _ in range(count):
            blocks = blocks_for(new + past)
            table.blocks_LB[len(lanes), :blocks] = np.arange(first, first + blocks)
            lanes.append(LaneSlice(len(lanes), past, new, 1))
            first += blocks
    return step_arguments(table, lanes)


def timed(runner: Runner, arguments: Mapping[str, Any]) -> float:
    """Median of some runs; the first is not counted."""
    runner.run(arguments)
    found: list[float] = []
    while sum(found) < FEW_TOKENS or len(found) < 3:
        began = time.perf_counter()
        runner.run(arguments)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def measure(
    groups: Sequence[Group], calibration: Calibration, settings: Settings, rounds: int
) -> Iterator[Measured]:
    """Rounds of one pass of the probes and every case of a group, group after group."""
    for group in groups:
        folder = folder_of(group, settings)
        runner = Runner(group, calibration.device, settings, folder)
        found = [Measured(group, case) for case in group.cases]
        prepared = [arguments_of(case) for case in group.cases]
        for _ in range(rounds):
            calibration.run_pass()
            for one, arguments in zip(found, prepared, strict=True):
                before = calibration.beside()
                one.seconds.append(timed(runner, arguments))
                one.references.append((before + calibration.beside()) / 2)
        print(f"{group.title}: measured", flush=True)
        yield from found


def predicted(group: Group, case: Case, rates: DeviceRates, work: Any) -> float:
    """Seconds of a step as the planner predicts it."""
    shape = shape_of(group)
    costs = MeasuredCost({rates.device: rates}, {shape.fingerprint: work})
    kind = rates.device_type()
    inventory = Inventory(
        devices=tuple(PlannedDevice(name, kind, "here") for name in ("first", "second")),
        within_host=Link(1e12),  # parts of one process hand arrays on as they are
    )
    return predict_step(shape, stages_of(group), inventory, costs, case.shape).seconds


def stages_of(group: Group) -> tuple[Stage, ...]:
    if group.split == "stages":
        border = first_layers(group)
        return (Stage(0, border, ("first",)), Stage(border, group.layers, ("second",)))
    attention = ("second",) if group.split == "attention" else ()
    return (Stage(0, group.layers, ("first",), attention),)


def shape_of(group: Group) -> ModelShape:
    configuration = configuration_of(group, folder_of(group, load_settings(os.environ)))
    return model_shape(
        configuration, group.title, weight_dtype=group.weights, cache_dtype=group.cache
    )


def record_of(calibration: Calibration, found: Sequence[Measured]) -> dict[str, Any]:
    rates = calibration.rates(
        "this-cpu", vendor="cpu", memory_bytes=3 * 10**9, read_bytes_per_second=1e9
    )
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "compile_seconds": calibration.compile_seconds,
        "calibration_seconds": calibration.run_seconds,
        "reference": asdict(calibration.reference()),
        "rates": rates_table(rates),
        "steps": [
            {
                "group": one.group.title,
                "case": one.case.title,
                "seconds": one.seconds,
                "references": one.references,
            }
            for one in found
        ],
    }


def report(records: Sequence[Mapping[str, Any]], settings: Settings) -> float:
    """Print every case and the mean absolute error, which is returned."""
    groups = {group.title: group for group in GROUPS}
    works: dict[str, Any] = {}
    errors: list[float] = []
    plain: list[float] = []
    print(f"{'model':34} {'step':40} {'ms':>9} {'predicted':>9} {'error':>7}")
    for record in records:
        rates = read_rates(record["rates"])
        for step in record["steps"]:
            group = groups[step["group"]]
            if group.title not in works:
                configuration = configuration_of(group, folder_of(group, settings))
                works[group.title] = graph_work(captured(group, configuration, settings))
            case = next(case for case in group.cases if case.title == step["case"])
            part, sizes = Part(0, group.layers), step_sizes(case.shape)
            read = works[group.title].num_bytes(part, sizes)
            reference = Reference(**record["reference"])
            pairs = list(zip(step["seconds"], step["references"], strict=True))
            real = statistics.median(reference.steadied(s, r, read) for s, r in pairs)
            guess = predicted(group, case, rates, works[group.title])
            errors.append(guess / real - 1.0)
            plain.append(abs(guess / statistics.median(step["seconds"]) - 1.0))
            line = f"{group.title:34} {case.title:40} {real * 1e3:9.2f} {guess * 1e3:9.2f}"
            print(f"{line} {errors[-1]:+7.1%}", flush=True)
    mean = statistics.fmean(map(abs, errors))
    bias = statistics.fmean(errors)
    print(f"{len(errors)} steps: mean absolute error {mean:.1%}, median ", end="")
    print(
        f"{statistics.median(map(abs, errors)):.1%}, largest {max(map(abs, errors)):.1%}, ", end=""
    )
    print(f"mean {bias:+.1%}; times as they were: {statistics.fmean(plain):.1%}")
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--groups", nargs="*", type=int, default=list(range(len(GROUPS))))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--raw", type=Path, help="add what was measured to this file")
    parser.add_argument("--report", nargs="*", type=Path, help="print files of --raw instead")
    options = parser.parse_args()
    settings = load_settings(os.environ)
    if options.report is not None:
        lines = [line for path in options.report for line in path.read_text().splitlines()]
        report([json.loads(line) for line in lines], settings)
        return
    device = find_device("cpu", settings=settings, num_threads=options.threads)
    groups = [GROUPS[number] for number in options.groups]
    plan = plan_for(groups)
    calibration = open_calibration(
        device, plan, CompileOptions(settings.cache_directory, settings.compiler_command)
    )
    print(f"probes: {len(calibration.probes)}, ready after {calibration.compile_seconds:.0f} s")
    found = list(measure(groups, calibration, settings, options.rounds))
    print(f"probes ran for {calibration.run_seconds:.0f} s")
    record = record_of(calibration, found)
    if options.raw is not None:
        append_record(options.raw, record)
    report([record], settings)
    device.close()


def plan_for(groups: Sequence[Group]) -> CalibrationPlan:
    """The usual probes without those whose forms or sizes of heads none of the groups has."""
    forms = {group.weights for group in groups}
    forms |= {"int8"} if forms - {"bfloat16"} else set()  # the output matrix is in 8 bits then
    sizes = {int(CONFIGURATIONS[group.model]["head_dim"]) for group in groups}
    usual = CalibrationPlan()
    return replace(
        usual,
        forms=tuple(form for form in usual.forms if form in forms),
        output_forms=tuple(form for form in usual.output_forms if form in forms),
        cache_forms=tuple(f for f in usual.cache_forms if f in {g.cache for g in groups}),
        heads=tuple(heads for heads in usual.heads if heads[2] in sizes),
    )


if __name__ == "__main__":
    main()
