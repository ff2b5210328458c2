"""Tokens per second of decoding in each format of weights and of keys and values, in one run.

    python -m benchmarks.engine_formats MODEL [--formats int8:int8 ...] [--batches 1 16 64]

Each format is a model of its own, `weights:cache`; rounds go over all of them and over a loop that
only reads, so that each figure has its bandwidth beside it. The whole engine steps: scheduling,
layout, program and greedy choice. Prompts are not computed (the time of a step does not depend on
what keys and values hold), so the cache is filled by layout alone up to the context asked for.
The share of bandwidth counts the weights, and keys and values with their scales, once per step.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.compiler.ir.types import DType
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.engine.engine import Engine
from banyan.engine.options import EngineOptions
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import LoadedModel, load_model
from banyan.foundation.settings import load_settings
from benchmarks.kernels import Bench, open_bench

HISTORY = Path(__file__).resolve().parent / "history" / "engine_formats.jsonl"
GREEDY = SamplingOptions(temperature=0.0, ignore_eos=True, max_tokens=200)
FORMATS = ("bfloat16:bfloat16", "int8:int8", "int4:int4")


class SkippingModel(StepModel):
    """A step that is computed only when asked to."""

    def __init__(self, model: StepModel, vocab_size: int) -> None:
        self._model = model
        self._vocab_size = vocab_size
        self.skips = True

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """The step's results, or zeros."""
        if not self.skips:
            return self._model.run(arguments)
        rows = len(arguments["logit_rows"])
        return {"logits": np.zeros((rows, self._vocab_size), np.float32)}


@dataclass(slots=True)
class Case:
    """One format at one batch size.

    Attributes:
        engine: with `batch` requests in it, at the context asked for.
        step_bytes: what one step has to read.
        rates: (tokens per second, share of bandwidth) of each round.
    """

    name: str
    batch: int
    engine: Engine
    step_bytes: int
    rates: list[tuple[float, float]] = field(default_factory=list)

    def run(self, bench: Bench, number: int, steps: int) -> None:
        """Time some steps between two readings of the bandwidth."""
        self.engine.step()
        before = bench.read(2 * number)
        began = time.perf_counter()
        for _ in range(steps):
            self.engine.step()
        seconds = (time.perf_counter() - began) / steps
        bandwidth = (before + bench.read(2 * number + 1)) / 2
        self.rates.append((self.batch / seconds, self.step_bytes / seconds / bandwidth))


def open_model(model: str, name: str, options: argparse.Namespace) -> LoadedModel:
    """Load a model in the format `weights:cache`, with room for the largest batch."""
    weights, cache = name.split(":")
    engine_options = EngineOptions(
        threads=options.threads,
        quantization=None if weights == "bfloat16" else weights,
        kv_cache_dtype="auto" if cache == "bfloat16" else cache,
        activation=options.activation if weights == "int4" else None,
        max_model_len=options.context + 256,
        max_num_seqs=max(options.batches),
        enable_prefix_caching=False,
    )
    return load_model(model, engine_options, settings=load_settings(os.environ))


def open_case(loaded: LoadedModel, name: str, batch: int, context: int) -> Case:
    """Fill an engine with requests that are `context` tokens long."""
    configuration = loaded.directory.decoder_configuration()
    model = SkippingModel(loaded.executable, configuration.vocab_size)
    engine = Engine(
        model,
        loaded.engine.limits,
        vocab_size=configuration.vocab_size,
        enable_prefix_caching=False,
    )
    generator = np.random.default_rng(batch)
    for number in range(batch):
        prompt = generator.integers(10, configuration.vocab_size, context).tolist()
        engine.add_request(str(number), prompt, GREEDY)
    started: set[str] = set()
    while len(started) < batch:
        started |= {event.request_id for event in engine.step()}
    model.skips = False
    row = CACHE_FORMATS[name.split(":")[1]].row_bytes(configuration.head_dim)
    per_token = 2 * configuration.num_layers * configuration.num_kv_heads * row
    step_bytes = loaded.executable.weight_bytes + batch * context * per_token
    return Case(name, batch, engine, step_bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--formats", nargs="*", default=list(FORMATS))
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 16, 64])
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--activation", default="int8", help="of int4 weights")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", action="store_true", help="add a line to benchmarks/history")
    options = parser.parse_args()
    bench = open_bench(DType.BFLOAT16, options.threads, options.rounds)
    models = {name: open_model(options.model, name, options) for name in options.formats}
    cases = [
        open_case(loaded, name, batch, options.context)
        for name, loaded in models.items()
        for batch in options.batches
    ]
    for round_number in range(options.rounds):
        for place, case in enumerate(cases):
            case.run(bench, round_number * len(cases) + place, options.steps)
    print(f"{'weights:cache':20} {'batch':>5} {'tokens/s':>9} {'share of bandwidth':>19}")
    rows = []
    for case in cases:
        rate, share = (statistics.median(column) for column in zip(*case.rates, strict=True))
        rows.append({"name": case.name, "batch": case.batch, "rate": rate, "share": share})
        print(f"{case.name:20} {case.batch:5} {rate:9.1f} {share:18.1%}")
    if options.keep:
        keep(options, rows)
    for loaded in models.values():
        loaded.close()


def keep(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Add the run to the history."""
    record = {
        "model": Path(options.model).name,
        "context": options.context,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": options.threads,
        "instruction_set": detect_instruction_sets()[0].name,
        "rows": rows,
    }
    with HISTORY.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
