"""Python time of one engine step: everything but the model itself.

A null model answers at once, so what is left is scheduling, laying out arrays, choosing tokens and
making text. Run: python benchmarks/engine_overhead.py [--vocab 151936] [--steps 200]
"""

import argparse
import statistics
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--steps", type=int, default=100)
    chosen = parser.parse_args()
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
