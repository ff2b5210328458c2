"""Python time of one engine step: everything but the model itself.

A null model answers at once, so what is left is scheduling, laying out arrays, choosing tokens and
making text. Run: python benchmarks/engine_overhead.py [--vocab 151936] [--steps 200]

With `--bare` nothing but the step itself: greedy choices from 256 words, no text; beside the same
for the sources of another checkout (`--against`), both in turns, on the same core:

    taskset -c 1 python benchmarks/engine_overhead.py --bare [--against ../before/src]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.engine.engine import Engine
from banyan.engine.fake import FakeTokenizer
from banyan.engine.options import EngineLimits
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions

CHOICES = {
    "greedy": SamplingOptions(temperature=0.0, ignore_eos=True),
    "temperature": SamplingOptions(ignore_eos=True, seed=1),
    "top-k 20, top-p 0.95": SamplingOptions(
        temperature=0.6, top_k=20, top_p=0.95, ignore_eos=True, seed=1
    ),
    "top-p 0.9": SamplingOptions(top_p=0.9, ignore_eos=True, seed=1),
    "greedy, logprobs 5": SamplingOptions(temperature=0.0, logprobs=5, ignore_eos=True),
}

BARE_BATCHES = (1, 16)


class NullModel(StepModel):
    """Gives the same logits again and again."""

    def __init__(self, num_rows: int, vocab_size: int) -> None:
        generator = np.random.default_rng(0)
        self._logits_RV = generator.normal(0, 3, (num_rows, vocab_size)).astype(np.float32)
        self.seconds = 0.0

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        return {"logits": self._logits_RV[: len(arguments["logit_rows"])]}


def step_milliseconds(
    batch: int, options: SamplingOptions, *, vocab_size: int, num_steps: int, with_text: bool
) -> list[float]:
    """Time decoding steps of `batch` sequences with 512 tokens of prompt each."""
    limits = EngineLimits(
        max_model_len=4096, max_num_seqs=batch, token_budget=batch * 512, num_blocks=batch * 256
    )
    engine = Engine(
        NullModel(batch, vocab_size),
        limits,
        vocab_size=vocab_size,
        tokenizer=FakeTokenizer() if with_text else None,
    )
    for number in range(batch):
        engine.add_request(str(number), [number + 1] * 512, options)
    engine.step()
    times = []
    for _ in range(num_steps):
        start = time.perf_counter()
        engine.step()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def bare_microseconds(batch: int, num_steps: int) -> float:
    """The median step of `batch` sequences."""
    options = SamplingOptions(temperature=0.0, ignore_eos=True, max_tokens=num_steps + 1)
    times = step_milliseconds(batch, options, vocab_size=256, num_steps=num_steps, with_text=False)
    return 1e3 * statistics.median(times)


def compare_bare(others: str | None, rounds: int = 5) -> None:
    """Print the bare step of these sources, and of others."""
    sources = {"here": os.environ.get("PYTHONPATH", ""), **({"there": others} if others else {})}
    found: dict[str, list[list[float]]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            printed = subprocess.run(
                [sys.executable, __file__, "--bare-once"],
                env=os.environ | {"PYTHONPATH": source},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            found[name].append([float(word) for word in printed.split()])
    print(f"{'sources':10}" + "".join(f"{batch:>6} answers" for batch in BARE_BATCHES))
    for name, runs in found.items():
        medians = [statistics.median(column) for column in zip(*runs, strict=True)]
        print(f"{name:10}" + "".join(f"{median:11.1f} us" for median in medians))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--against", metavar="SRC")
    parser.add_argument("--bare-once", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.bare_once:
        print(*(bare_microseconds(batch, 2000) for batch in BARE_BATCHES))
        return
    if chosen.bare:
        compare_bare(chosen.against)
        return
    print(f"{'choice':24} {'batch':>5} {'median ms':>10} {'p90 ms':>8}")
    for name, options in CHOICES.items():
        for batch in (1, 16, 64):
            times = step_milliseconds(
                batch, options, vocab_size=chosen.vocab, num_steps=chosen.steps, with_text=True
            )
            p90 = statistics.quantiles(times, n=10)[-1]
            print(f"{name:24} {batch:5} {statistics.median(times):10.3f} {p90:8.3f}")


if __name__ == "__main__":
    main()
