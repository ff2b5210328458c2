"""What the prefix cache saves: time to the first token, and the hit rate of conversations.

    python benchmarks/engine_prefix_cache.py [--model DIR] [--dtype bfloat16] [--rounds 5]

1. Time to the first token of a prompt whose first 2,000 tokens were computed before, beside that
   of a prompt of the same length never seen. Cold and warm alternate; medians and the ratio. The
   bar: warm <= 1/15 of cold.
2. A trace of 50 conversations over one engine: each turn sends everything said so far. Hit rate in
   tokens beside the ideal, which knows every token ever seen, forgets nothing and need not stop at
   whole blocks. The bar: within 2 % of it. A second row gives the cache 60 % of the blocks that
   the conversations need.
"""

import argparse
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.engine import Engine
from banyan.engine.events import TokenEvent
from banyan.engine.options import EngineLimits
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions

VOCAB_SIZE = 512
NUM_CONVERSATIONS = 50
PREFIX_TOKENS = 2000
QUESTION_TOKENS = 20
SEEDLING = Path(__file__).parent.parent / "models" / "seedling"


class RandomWriter(StepModel):
    """A model without weights that writes at random: a trace needs tokens, not sense."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Logits of one likeliest token for each row."""
        num_rows = len(arguments["logit_rows"])
        logits_RV = np.zeros((num_rows, VOCAB_SIZE), dtype=np.float32)
        chosen = self._generator.integers(0, VOCAB_SIZE, num_rows)
        logits_RV[np.arange(num_rows), chosen] = 9.0
        return {"logits": logits_RV}


@dataclass(frozen=True, slots=True)
class HitRates:
    """Shares of all prompt tokens that were found, and that could have been."""

    found: float
    ideal: float
    blocks_needed: int


class Seen:
    """The ideal: every token sequence ever known, to the token, for ever."""

    def __init__(self) -> None:
        self._tree: dict[int, Any] = {}
        self.num_tokens = 0

    def longest(self, tokens: list[int]) -> int:
        """Tokens of the longest known beginning, the last token left out: it must be computed."""
        place, length = self._tree, 0
        for token in tokens[:-1]:
            if token not in place:
                break
            place, length = place[token], length + 1
        return length

    def add(self, tokens: list[int]) -> None:
        """Remember a whole sequence but its last token, which was chosen and never computed."""
        place = self._tree
        for token in tokens[:-1]:
            if token not in place:
                place[token] = {}
                self.num_tokens += 1
            place = place[token]


def conversation_hit_rates(*, num_blocks: int | None = None, seed: int = 0) -> HitRates:
    """Play the conversations in random order, four turns at a time; None caches everything."""
    generator = np.random.default_rng(seed)
    limits = EngineLimits(
        max_model_len=8192, max_num_seqs=4, token_budget=2048, num_blocks=num_blocks or 16384
    )
    engine = Engine(RandomWriter(seed), limits, vocab_size=VOCAB_SIZE)
    seen = Seen()
    systems = [_tokens(generator, 400), _tokens(generator, 900), _tokens(generator, 1500)]
    conversations = [list(systems[i % 3]) for i in range(NUM_CONVERSATIONS)]
    turns = [i for i in range(NUM_CONVERSATIONS) for _ in range(int(generator.integers(3, 9)))]
    generator.shuffle(turns)
    num_prompt = num_found = num_ideal = 0
    for number in turns:
        prompt = conversations[number] + _tokens(generator, int(generator.integers(20, 300)))
        num_prompt += len(prompt)
        num_ideal += seen.longest(prompt)
        events = _answer(engine, prompt, max_tokens=int(generator.integers(50, 400)))
        num_found += events[0].num_cached_tokens
        said = [token for event in events for token in event.token_ids]
        conversations[number] = prompt + said
        seen.add(conversations[number])
    needed = blocks_for(seen.num_tokens)
    return HitRates(num_found / num_prompt, num_ideal / num_prompt, needed)


def _tokens(generator: np.random.Generator, count: int) -> list[int]:
    return [int(token) for token in generator.integers(0, VOCAB_SIZE, count)]


def _answer(engine: Engine, prompt: list[int], *, max_tokens: int) -> list[TokenEvent]:
    options = SamplingOptions(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
    engine.add_request("turn", prompt, options)
    events: list[TokenEvent] = []
    while engine.has_work():
        events += engine.step()
    return events


def first_token_seconds(engine: Engine, prompt: list[int]) -> tuple[float, int]:
    """Seconds until the first token of an otherwise idle engine, and the tokens it found."""
    options = SamplingOptions(temperature=0.0, max_tokens=1, ignore_eos=True)
    began = time.perf_counter()
    engine.add_request("one", prompt, options)
    events: list[TokenEvent] = []
    while not events:
        events = engine.step()
    return time.perf_counter() - began, events[0].num_cached_tokens


def cold_and_warm(
    engine: Engine, *, num_rounds: int, vocab_size: int
) -> tuple[list[float], list[float]]:
    """Seconds to the first token, cold and warm in turns."""
    generator = np.random.default_rng(1)

    def tokens(count: int) -> list[int]:
        return [int(token) for token in generator.integers(0, vocab_size, count)]

    first_token_seconds(engine, tokens(PREFIX_TOKENS + QUESTION_TOKENS))  # warm the kernels
    cold, warm = [], []
    for _ in range(num_rounds):
        prefix = tokens(PREFIX_TOKENS)
        cold.append(first_token_seconds(engine, prefix + tokens(QUESTION_TOKENS))[0])
        seconds, num_found = first_token_seconds(engine, prefix + tokens(QUESTION_TOKENS))
        assert num_found == PREFIX_TOKENS, f"found {num_found} tokens of {PREFIX_TOKENS}"
        warm.append(seconds)
    return cold, warm


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(SEEDLING))
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--quantization")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    # The trace must run where no model can be compiled.
    from banyan.engine.llm import LLM  # noqa: PLC0415

    with LLM(
        chosen.model,
        dtype=chosen.dtype,
        quantization=chosen.quantization,
        max_model_len=PREFIX_TOKENS + QUESTION_TOKENS + 12,
        num_blocks=1024,
    ) as model:
        loaded = model._open().first
        cold, warm = cold_and_warm(
            loaded.engine, num_rounds=chosen.rounds, vocab_size=loaded.engine.vocab_size
        )
    ratios = [c / w for c, w in zip(cold, warm, strict=True)]
    print(f"time to first token, {PREFIX_TOKENS} shared tokens and {QUESTION_TOKENS} of its own")
    for name, seconds in (("cold", cold), ("warm", warm)):
        print(
            f"  {name}: median {statistics.median(seconds) * 1e3:9.2f} ms   "
            f"min {min(seconds) * 1e3:9.2f}   max {max(seconds) * 1e3:9.2f}"
        )
    print(f"  cold / warm: median {statistics.median(ratios):.1f}   min {min(ratios):.1f}")
    print(f"hit rate of {NUM_CONVERSATIONS} conversations, share of all prompt tokens")
    everything = conversation_hit_rates()
    scarce = conversation_hit_rates(num_blocks=int(0.6 * everything.blocks_needed))
    for name, rates in (("everything fits", everything), ("60 % of it fits", scarce)):
        print(
            f"  {name}: found {rates.found:.4f}   ideal {rates.ideal:.4f}   "
            f"ratio {rates.found / rates.ideal:.4f}"
        )


if __name__ == "__main__":
    main()
