"""Predict the memory of the workers of a plan, serve it, and print how far off it was.

A model with random weights is cut into two stages, a worker process each; every block of the KV
cache is filled, and each worker's anonymous memory is compared with the weights and the cache that
the planner counts for its part. What a worker takes beside that (the interpreter, programs, room
for values) is what a worker of a much smaller model has beyond its own weights and cache.

Run: python -m benchmarks.memory_prediction [--layers 8] [--blocks 256]
"""

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from banyan.engine.options import EngineOptions
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import load_model
from banyan.foundation.settings import load_settings
from banyan.models.loading import open_model
from banyan.planner.costs import Part, RooflineCost
from banyan.planner.model_shape import model_shape
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from benchmarks.shaped_model import ModelSize, write_model

BLOCK = 16
SMALL = ModelSize(layers=2, hidden=128, intermediate=256, heads=2, kv_heads=1, vocab=512)
FORMATS = (("auto", "auto"), ("int8", "int8"), ("int4", "int4"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One worker.

    Attributes:
        name: what was served.
        predicted: bytes of weights and cache.
        measured: anonymous bytes of the process.
    """

    name: str
    predicted: float
    measured: float


def main() -> None:
    """Serve every format, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=256)
    asked = parser.parse_args()
    large = ModelSize(
        layers=asked.layers, hidden=1024, intermediate=3072, heads=16, kv_heads=8, vocab=16384
    )
    with tempfile.TemporaryDirectory() as folder:
        small_model = write_model(Path(folder, "small"), SMALL)
        model = write_model(Path(folder, "large"), large)
        small = list(outcomes(small_model, "auto", "auto", asked.blocks))
        beside = sum(each.measured - each.predicted for each in small) / len(small)
        print(f"beside weights and cache a worker takes {beside / 2**20:.0f} MiB")
        print("| weights, cache, stage | predicted | measured | error |\n|---|---|---|---|")
        errors = []
        for weights, cache in FORMATS:
            for each in outcomes(model, weights, cache, asked.blocks):
                measured = each.measured - beside
                errors.append(each.predicted / measured - 1.0)
                print(
                    f"| {each.name} | {each.predicted / 2**20:.0f} MiB | "
                    f"{measured / 2**20:.0f} MiB | {errors[-1]:+.1%} |",
                    flush=True,
                )
    mean = sum(abs(error) for error in errors) / len(errors)
    print(f"mean absolute error {mean:.1%} of {len(errors)} workers")


def outcomes(model: Path, weights: str, cache: str, num_blocks: int) -> Iterator[Outcome]:
    """Serve a model in two workers until the cache is full."""
    configuration = open_model(str(model)).decoder_configuration()
    cut = configuration.num_layers // 2
    stages = (Stage(0, cut, ("cpu",)), Stage(cut, configuration.num_layers, ("cpu#1",)))
    plan = Plan(
        model="m",
        model_fingerprint="",
        num_layers=configuration.num_layers,
        replicas=(Replica(stages),),
    )
    quantization = None if weights == "auto" else weights
    options = EngineOptions(
        quantization=quantization,
        kv_cache_dtype=cache,
        num_blocks=num_blocks,
        max_num_seqs=4,
        max_model_len=num_blocks * BLOCK // 4,
        max_num_batched_tokens=256,
        enable_prefix_caching=False,
        threads=1,
        plan=print_plan(plan),
    )
    shape = model_shape(
        configuration,
        "m",
        weight_dtype=quantization or "bfloat16",
        cache_dtype="bfloat16" if cache == "auto" else cache,
        compute_dtype="bfloat16",
    )
    with closing(load_model(str(model), options, settings=load_settings(os.environ))) as loaded:
        sampling = SamplingOptions(temperature=0.0, max_tokens=4, ignore_eos=True)
        length = num_blocks * BLOCK // 4 - 4
        for number in range(4):
            loaded.engine.add_request(str(number), [5 + number] * length, sampling)
        while loaded.engine.has_work():
            loaded.engine.step()
        found = dict(_workers())
    cost = RooflineCost()
    for stage, place in zip(stages, ("cpu", "cpu#1"), strict=True):
        part = Part(stage.first_layer, stage.end_layer)
        tokens = num_blocks * BLOCK
        predicted = cost.weight_bytes(shape, part) + tokens * cost.cache_bytes_per_token(
            shape, part
        )
        yield Outcome(f"{weights}, {cache}, {place}", predicted, found[place])


def _workers() -> Iterator[tuple[str, float]]:
    """Each worker process of this one: its place and its anonymous bytes."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_text().split("\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        if parent == os.getpid() and "banyan.engine.starting.stage_worker" in command:
            place = command[command.index("banyan.engine.starting.stage_worker") + 2]
            yield place, _anonymous_bytes(lines)


def _anonymous_bytes(lines: Sequence[str]) -> float:
    """Of a `smaps_rollup`."""
    (line,) = (line for line in lines if line.startswith("Anonymous:"))
    return float(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
