"""How much tuning gains over what ships: layers of three models, weights cold.

python -m benchmarks.compiler_tuning [--threads N] [--layers 0 5 7] [--seed]

For each layer the block that is used without tuning runs beside the best that tuning finds, in
turns. Prints the loss of not tuning for one, 16 and 512 rows; the promise is at most 15 %. With
`--seed` the blocks that win become those that ship for this instruction set.
"""

import argparse
import json
import os
from contextlib import closing

from banyan.compiler.compile import CompileOptions
from banyan.compiler.schedules.evidence import Finding
from banyan.compiler.schedules.known import SEED
from banyan.compiler.targets.cpp.target import open_target
from banyan.compiler.tiling.options import LinearShape
from banyan.compiler.tuner.search import Bench, known_block, tune_shape
from banyan.devices.cpu import CpuDevice
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.discovery import find_device
from banyan.devices.measure import bytes_to_read, kept_or_measured_profile
from banyan.devices.recorder import LaunchRecorder
from banyan.foundation.settings import load_settings

ROWS = (1, 16, 512)
LAYERS = {
    "Qwen3-0.6B": ((1024, 4096), (2048, 1024), (1024, 6144), (3072, 1024)),
    "Llama-3.2-1B": ((2048, 3072), (2048, 2048), (2048, 16384), (8192, 2048)),
    "Llama-3.1-8B": ((4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096)),
}
"""Merged as the compiler merges them: queries, keys and values; output; gate and up; down."""
LEAST_GAIN = 0.02
"""Of the time without tuning, on the mean of all rows, for a block to be worth shipping."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--layers", type=int, nargs="*", help="numbers of the layers; all if none")
    parser.add_argument("--seed", action="store_true", help="ship the blocks that win")
    options = parser.parse_args()
    settings = load_settings(os.environ)
    probe = CpuProbe()
    profile = kept_or_measured_profile(settings=settings, measured_on="")
    with closing(find_device("cpu", settings=settings, num_threads=options.threads)) as device:
        assert isinstance(device, CpuDevice)
        bench = Bench(
            device=device,
            recorder=LaunchRecorder(settings.cache_directory),
            profile=profile,
            options=CompileOptions(settings.cache_directory, settings.compiler_command),
            rows=ROWS,
            cold_bytes=bytes_to_read(probe.topology(), probe.inventory()[0].memory_bytes),
            measured_on="",
        )
        shapes = [
            (model, LinearShape(k, n, "bf16")) for model, pairs in LAYERS.items() for k, n in pairs
        ]
        print(f"{'layer':<28}{'tuned block':>14}  loss without tuning at rows {ROWS}")
        level = open_target(device, bench.options).level.name
        for number in options.layers or range(len(shapes)):
            model, shape = shapes[number]
            finding = tune_shape(shape, bench)
            times = {timing.block: dict(timing.seconds) for timing in finding.timings}
            known, best = times[known_block(shape, bench)], times[finding.block]
            lost = [known[m] / best[m] - 1 for m in ROWS]
            losses = "  ".join(f"{loss:+7.1%}" for loss in lost)
            block = f"{finding.block.rows} x {finding.block.panels}"
            print(
                f"{model:<14}{shape.depth:>6}x{shape.columns:<7}{block:>14}  {losses}", flush=True
            )
            if options.seed and sum(lost) / len(lost) > LEAST_GAIN:
                ship(level, finding)


def ship(level: str, finding: Finding) -> None:
    """Write the winner over what ships for its shape."""
    shipped = json.loads(SEED.read_text(encoding="utf-8"))
    shape, block = finding.shape, finding.block
    key = [shape.depth, shape.columns, shape.weight]
    others = [row for row in shipped.get(level, []) if row[:3] != key]
    shipped[level] = sorted([*others, [*key, block.rows, block.panels]])
    lines = (f"  {json.dumps(name)}: {json.dumps(rows)}" for name, rows in sorted(shipped.items()))
    SEED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
