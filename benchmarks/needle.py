"""Find needles in a text of up to 1,048,576 tokens with quantised keys and values.

    python -m benchmarks.needle_model /tmp/needle
    python -m benchmarks.needle /tmp/needle [--length 1048000] [--kv-cache-dtype int4]

Pairs "key value" are strewn into random filler at several depths; a prompt is the whole text and
one of the keys, and the answer must be its value. The first prompt is computed; the others find
what they share with it in the prefix cache. Prints the peak memory of the process.
"""

import argparse
import resource
import time

import numpy as np

from banyan import LLM, SamplingOptions
from benchmarks.needle_model import FILLER, KEYS, VALUES

DEPTHS = (0.0001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.9999)
DECOYS = 32


def haystack(length: int) -> tuple[list[int], dict[float, tuple[int, int]]]:
    """A text of `length` tokens, and for each depth its pair; other keys are decoys."""
    generator = np.random.default_rng(11)
    text = generator.integers(FILLER.start, FILLER.stop, length)
    keys = generator.permutation(KEYS)[: len(DEPTHS) + DECOYS].tolist()
    values = generator.choice(VALUES, len(keys)).tolist()
    depths = [*DEPTHS, *generator.uniform(0.01, 0.99, DECOYS).tolist()]
    for depth, key, value in zip(depths, keys, values, strict=True):
        place = int(depth * (length - 2))
        text[place : place + 2] = key, value
    pairs = zip(keys, values, strict=True)
    return text.tolist(), dict(zip(DEPTHS, pairs, strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--length", type=int, default=1_048_000)
    parser.add_argument("--kv-cache-dtype", default="int4")
    parser.add_argument("--step-tokens", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    text, needles = haystack(options.length)
    greedy = SamplingOptions(temperature=0.0, max_tokens=1, ignore_eos=True)
    found = 0
    with LLM(
        options.model,
        kv_cache_dtype=options.kv_cache_dtype,
        threads=options.threads,
        max_model_len=options.length + 16,
        max_num_seqs=1,
        max_num_batched_tokens=options.step_tokens,
    ) as llm:
        for depth, (key, value) in needles.items():
            began = time.perf_counter()
            (answer,) = llm.generate([[*text, key]], greedy)
            seconds = time.perf_counter() - began
            is_right = list(answer.token_ids) == [value]
            found += is_right
            mark = "found" if is_right else f"missed: {answer.token_ids} is not {value}"
            print(f"depth {depth:8.2%}: {mark}, {seconds:.1f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{found} of {len(needles)} needles in {options.length} tokens with "
        f"{options.kv_cache_dtype} keys and values; peak resident {peak:.0f} MB"
    )


if __name__ == "__main__":
    main()
