"""How much tuning gains over what ships: layers of three models, weights cold.

python benchmarks/compiler_tuning.py [--threads N] [--shapes 4]

For each layer the block that is used without tuning runs beside the best that tuning finds, in
turns. Prints the loss of not tuning for one, 16 and 512 rows; the promise is at most 15 %.
"""

import argparse
import os
from contextlib import closing

from banyan.compiler.compile import CompileOptions
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
    "Qwen3-0.6B": ((1024, 4096), (1024, 6144), (3072, 1024)),
    "Llama-3.2-1B": ((2048, 16384), (8192, 2048)),
    "Llama-3.1-8B": ((4096, 4096), (4096, 28672), (14336, 4096)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--shapes", type=int, default=8, help="only the first so many layers")
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
        for model, shape in shapes[: options.shapes]:
            finding = tune_shape(shape, bench)
            times = {timing.block: dict(timing.seconds) for timing in finding.timings}
            known, best = times[known_block(shape, bench)], times[finding.block]
            losses = "  ".join(f"{known[m] / best[m] - 1:+7.1%}" for m in ROWS)
            block = f"{finding.block.rows} x {finding.block.panels}"
            print(f"{model:<14}{shape.depth:>6}x{shape.columns:<7}{block:>14}  {losses}")


if __name__ == "__main__":
    main()
