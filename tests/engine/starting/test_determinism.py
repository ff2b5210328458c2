"""Deterministic mode: refusals, the proof at the start, and answers alone and among others."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from banyan import LLM, SamplingOptions
from banyan.engine.fake import FakeModel
from banyan.engine.options import EngineLimits, EngineOptions
from banyan.engine.runner import StepModel
from banyan.engine.starting.determinism import prove_deterministic, require_deterministic
from banyan.foundation.errors import EnvironmentProblem, InputError
from tests.engine.batch_mixes import answers_among_others, requests_of

SEEDLING = Path(__file__).parents[3] / "models" / "seedling"
LIMITS = EngineLimits(max_model_len=64, max_num_seqs=4, token_budget=64, num_blocks=16)


class DependsOnTheBatch(StepModel):
    """A fake model whose logits change by a hair with the number of rows."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._model = FakeModel(LIMITS.num_blocks)

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        logits = self._model.run(arguments)["logits"]
        if len(arguments["token_ids"]) == self._rows:
            logits = np.nextafter(logits, np.float32(9))
        return {"logits": logits}


def test_a_model_that_keeps_its_bits_is_proven() -> None:
    prove_deterministic(FakeModel(LIMITS.num_blocks), LIMITS, vocab_size=260)
    small = EngineLimits(max_model_len=1, max_num_seqs=1, token_budget=1, num_blocks=1)
    prove_deterministic(FakeModel(1), small, vocab_size=260)


@pytest.mark.parametrize("rows", [3, 4, 14, 37])
def test_a_model_that_differs_in_the_last_bit_is_refused(rows: int) -> None:
    with pytest.raises(EnvironmentProblem, match="mode='deterministic' does not hold"):
        prove_deterministic(DependsOnTheBatch(rows), LIMITS, vocab_size=260)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kv_cache_dtype": "int4"}, "kv_cache_dtype='int4', whose sums depend on the batch"),
        ({"enable_lora": True}, "adapters, whose kernels are not known to keep it"),
    ],
)
def test_what_is_not_known_to_hold_is_refused(options: Any, sentence: str, lonely: LLM) -> None:
    device = lonely._open().first.device
    with pytest.raises(InputError, match=sentence):
        require_deterministic(EngineOptions(mode="deterministic", **options), device)
    require_deterministic(EngineOptions(**options), device)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match="mode='quick' is not known; use one of fast, determin"):
        EngineOptions(mode="quick")


@pytest.fixture(scope="module")
def seedling() -> Iterator[LLM]:
    # Few blocks and a small budget: prompts are cut, and sequences give way and are recomputed.
    with LLM(
        SEEDLING,
        mode="deterministic",
        threads=2,
        max_model_len=256,
        max_num_seqs=8,
        max_num_batched_tokens=67,
        num_blocks=18,
        speculation={"method": "ngram", "prompt_lookup_min": 1, "always": True},
    ) as llm:
        yield llm


@pytest.fixture(scope="module")
def lonely() -> Iterator[LLM]:
    with LLM(
        SEEDLING,
        mode="deterministic",
        threads=1,
        max_model_len=256,
        max_num_seqs=1,
        enable_prefix_caching=False,
    ) as llm:
        yield llm


def test_answers_in_random_mixes_are_those_given_alone(seedling: LLM, lonely: LLM) -> None:
    check(seedling, lonely, num_requests=24)


@pytest.mark.wide
def test_five_hundred_answers_in_random_mixes_are_those_given_alone(
    seedling: LLM, lonely: LLM
) -> None:
    check(seedling, lonely, num_requests=500)


def check(llm: LLM, lonely: LLM, *, num_requests: int) -> None:
    requests = requests_of(num_requests, longest_prompt=90, vocab_size=4096)
    together = answers_among_others(llm, requests, seed=1)
    statistics = llm._open().first.engine.statistics()
    assert min(statistics.preemptions, statistics.tokens_accepted, statistics.tokens_drafted) > 0
    for number, (prompt, options) in enumerate(requests):
        (alone,) = lonely.generate([prompt], options)
        assert together[number] == alone.outputs[0], number


def test_the_fast_mode_takes_the_same_options() -> None:
    with LLM(SEEDLING, mode="fast", threads=1, max_model_len=64, max_num_seqs=1) as llm:
        options = SamplingOptions(temperature=0.0, max_tokens=2)
        assert len(llm.generate([[5, 6, 7]], options)[0].token_ids) == 2
