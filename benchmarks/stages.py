"""What a plan of two stages on one host costs beside the same work on one device.

One thread each: a step of two stages one after the other does the arithmetic of one device, so the
ideal is its time. Arms take turns step by step in one process, with the same arrays; medians and
the ratio of each round are printed.

- one: the whole step on one device;
- inline: two stages in this process;
- workers: two stages, each in a worker process (shared memory);
- attention: attention and its cache in another worker than the rest.

Run: python -m benchmarks.stages [--model DIR] [--grow 4] [--batch 16] [--context 256] [--rounds 5]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.cli.shipped import find_model
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.engine.options import EngineOptions
from banyan.engine.runner import StepModel
from banyan.engine.starting.loading import load_model
from banyan.foundation.settings import load_settings
from banyan.models.loading import open_model
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from benchmarks.grown_seedling import grow

Arrays = Mapping[str, NDArray[Any]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model")
    parser.add_argument("--grow", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--arms", default="one,inline,workers")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        model = asked.model or str(
            grow(Path(find_model(None)), Path(folder) / "grown", times=asked.grow)
        )
        layers = open_model(model).decoder_configuration().num_layers
        steps = {
            name: opened.enter_context(closing(_load(model, plan, workers, asked)))
            for name, (plan, workers) in _arms(layers).items()
            if name in asked.arms.split(",")
        }
        _measure({name: loaded.executable for name, loaded in steps.items()}, asked)


def _arms(layers: int) -> dict[str, tuple[str | None, tuple[tuple[str, str], ...]]]:
    half = layers // 2
    two = _text(Stage(0, half, ("cpu",)), Stage(half, layers, ("cpu#1",)))
    inline = (("cpu", "inline:cpu"), ("cpu#1", "inline:cpu"))
    apart = _text(Stage(0, layers, ("cpu",), attention=("cpu#1",)))
    return {
        "one": (None, ()),
        "inline": (two, inline),
        "workers": (two, ()),
        "attention": (apart, ()),
    }


def _text(*stages: Stage) -> str:
    return print_plan(
        Plan(
            model="measured",
            model_fingerprint="",
            num_layers=stages[-1].end_layer,
            replicas=(Replica(stages),),
        )
    )


def _load(
    model: str, plan: str | None, workers: tuple[tuple[str, str], ...], asked: argparse.Namespace
) -> Any:
    length = asked.context + 16
    options = EngineOptions(
        threads=1,
        max_model_len=length,
        max_num_seqs=asked.batch,
        num_blocks=blocks_for(length) * asked.batch,
        plan=plan,
        plan_workers=workers,
    )
    return load_model(model, options, settings=load_settings({}))


def _step(asked: argparse.Namespace) -> Arrays:
    """Every sequence of the batch goes on by one token."""
    blocks = blocks_for(asked.context)
    tables = np.arange(asked.batch * blocks, dtype=np.int32).reshape(asked.batch, blocks)
    last = asked.context - 1
    return {
        "token_ids": np.arange(asked.batch, dtype=np.int64) + 7,
        "positions": np.full(asked.batch, last, np.int64),
        "slots": tables[:, last // BLOCK_SIZE].astype(np.int64) * BLOCK_SIZE + last % BLOCK_SIZE,
        "block_tables": tables,
        "query_starts": np.arange(asked.batch + 1, dtype=np.int32),
        "context_lengths": np.full(asked.batch, asked.context, np.int32),
        "logit_rows": np.arange(asked.batch, dtype=np.int64),
    }


def _measure(steps: Mapping[str, StepModel], asked: argparse.Namespace) -> None:
    arrays = _step(asked)
    wanted: NDArray[Any] | None = None
    for name, step in steps.items():
        for _ in range(3):
            logits = np.array(step.run(arrays)["logits"])
        wanted = logits if wanted is None else wanted
        same = "the same bits" if np.array_equal(logits, wanted) else "other bits"
        print(f"{name:10} logits: {same} as the first arm's")
    ratios: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(asked.rounds):
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(asked.steps):
            for name, step in steps.items():
                began = time.perf_counter()
                step.run(arrays)
                seconds[name].append(time.perf_counter() - began)
        base = statistics.median(next(iter(seconds.values())))
        for name, found in seconds.items():
            ratios[name].append(statistics.median(found) / base)
    for name, found in seconds.items():
        low, high = min(ratios[name]), max(ratios[name])
        print(
            f"{name:10} {1e3 * statistics.median(found):8.2f} ms a step, "
            f"{statistics.median(ratios[name]):.3f} of the first arm [{low:.3f} .. {high:.3f}]"
        )


if __name__ == "__main__":
    main()
