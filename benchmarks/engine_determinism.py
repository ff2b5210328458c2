"""Deterministic mode: are answers in random mixes those given alone, and what does it cost?

Sends requests at random moments to an engine in deterministic mode, compares every token, text and
log probability with the same request alone, and then times a batch in both modes, taking turns.

Run: python -m benchmarks.engine_determinism [--model DIR] [--requests 500] [--rounds 5]
"""

import argparse
import statistics
import time
from pathlib import Path

from banyan import LLM, SamplingOptions
from tests.engine.batch_mixes import Request, answers_among_others, requests_of

SEEDLING = Path(__file__).parents[1] / "models" / "seedling"
LONGEST_PROMPT = 200
MAX_LENGTH = 512
BATCH = 16


def load(model: str, mode: str, *, max_num_seqs: int) -> LLM:
    """Load without a prefix cache, so that nothing is remembered from round to round."""
    return LLM(
        model,
        mode=mode,
        max_model_len=MAX_LENGTH,
        max_num_seqs=max_num_seqs,
        enable_prefix_caching=False,
    )


def num_different(model: str, requests: list[Request]) -> int:
    """How many requests get something else among others than alone."""
    with LLM(model, mode="deterministic", max_model_len=MAX_LENGTH, max_num_seqs=BATCH) as llm:
        together = answers_among_others(llm, requests, seed=7)
    with load(model, "deterministic", max_num_seqs=1) as llm:
        alone = [llm.generate([prompt], options)[0].outputs[0] for prompt, options in requests]
    return sum(one != other for one, other in zip(together, alone, strict=True))


def batch_seconds(llm: LLM) -> float:
    """Time a batch of prompts of 128 tokens with answers of 64."""
    options = SamplingOptions(temperature=0.0, max_tokens=64, ignore_eos=True)
    prompts = [[3 + (7 * lane + i) % 1000 for i in range(128)] for lane in range(BATCH)]
    start = time.perf_counter()
    llm.generate(prompts, options)
    return time.perf_counter() - start


def cost(model: str, rounds: int) -> list[float]:
    """Time in deterministic mode over time in fast mode, round by round."""
    with (
        load(model, "fast", max_num_seqs=BATCH) as fast,
        load(model, "deterministic", max_num_seqs=BATCH) as deterministic,
    ):
        for llm in (fast, deterministic):
            batch_seconds(llm)
        ratios = []
        for number in range(rounds):
            both = (fast, deterministic) if number % 2 else (deterministic, fast)
            seconds = {id(llm): batch_seconds(llm) for llm in both}
            ratios.append(seconds[id(deterministic)] / seconds[id(fast)])
        return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(SEEDLING))
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    requests = requests_of(chosen.requests, longest_prompt=LONGEST_PROMPT, vocab_size=4096)
    print(f"requests that differ: {num_different(chosen.model, requests)} of {len(requests)}")
    ratios = cost(chosen.model, chosen.rounds)
    print(
        f"time over that of the fast mode, {len(ratios)} rounds: "
        f"median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
