"""Steps and rows of a decoder that pools, on a fake that checks what it is given."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from banyan.engine.pooling.decoder import (
    Chunk,
    DecoderRunner,
    blocks_of_run,
    cut_into_steps,
    rows_for_answers,
    rows_for_vectors,
)
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.runner import StepModel
from banyan.models.pairs import AnswerTokens
from banyan.models.pooling import Mode, Pooling


class SummingModel(StepModel):
    """A token's row holds the sum of all tokens that it sees, read from the cache, and itself."""

    def __init__(self, output: str = "hidden") -> None:
        self.output = output
        self.cache = np.full(blocks_of_run(64) * 16, 10**6, dtype=np.int64)
        self.steps: list[int] = []

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        tokens, starts = arguments["token_ids"], arguments["query_starts"]
        self.steps.append(len(tokens))
        self.cache[arguments["slots"]] = tokens
        rows = []
        for row in arguments["logit_rows"]:
            prompt = int(np.searchsorted(starts, row, side="right")) - 1
            seen = int(arguments["context_lengths"][prompt]) - (int(starts[prompt + 1]) - 1 - row)
            assert arguments["positions"][row] == seen - 1
            places = np.arange(seen)
            blocks = arguments["block_tables"][prompt, places // 16].astype(np.int64)
            rows.append([self.cache[blocks * 16 + places % 16].sum(), tokens[row]])
        return {self.output: np.array(rows, dtype=np.float32)}


def run(mode: Mode, prompts: list[list[int]], *, budget: int = 4096) -> list[list[float]]:
    choice = rows_for_vectors(Pooling(mode, False, 64))
    runner = DecoderRunner(
        SummingModel(), choice, max_tokens=64, vocab_size=99, tokens_per_step=budget
    )
    rows: list[list[float]] = runner.run([PoolingPrompt(tuple(one)) for one in prompts]).tolist()
    return rows


def test_the_last_the_first_or_the_mean_row_stands_for_a_prompt() -> None:
    prompts = [[1, 2, 3], [10, 20]]
    assert run("lasttoken", prompts) == [[6.0, 3.0], [30.0, 20.0]]
    assert run("cls", prompts) == [[1.0, 1.0], [10.0, 10.0]]
    assert np.allclose(run("mean", prompts), [[10 / 3, 2.0], [20.0, 15.0]])


def test_no_prompts_give_no_rows() -> None:
    assert run("mean", []) == []


def test_a_normalised_row_has_length_one() -> None:
    runner = DecoderRunner(
        SummingModel(),
        rows_for_vectors(Pooling("lasttoken", True, 64)),
        max_tokens=64,
        vocab_size=99,
    )
    assert np.linalg.norm(runner.run([PoolingPrompt((1, 2))])) == np.float32(1.0)


def test_a_score_is_the_log_odds_or_one_logit() -> None:
    logits = np.array([[1.0, 5.0, 2.0]], dtype=np.float32)
    assert rows_for_answers(AnswerTokens(1, 2)).finish(logits).tolist() == [[3.0]]
    assert rows_for_answers(AnswerTokens(1, None)).finish(logits).tolist() == [[5.0]]


def test_prompts_are_cut_where_a_step_is_full() -> None:
    assert list(cut_into_steps([3, 6, 1], 4)) == [
        [Chunk(0, 0, 3), Chunk(1, 0, 1)],
        [Chunk(1, 1, 5)],
        [Chunk(1, 5, 6), Chunk(2, 0, 1)],
    ]


@given(
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=9),
    budget=st.integers(1, 70),
    mode=st.sampled_from(["lasttoken", "cls", "mean"]),
)
def test_no_cut_changes_a_row(lengths: list[int], budget: int, mode: Mode) -> None:
    prompts = [[1 + (7 * n + at) % 90 for at in range(length)] for n, length in enumerate(lengths)]
    assert np.allclose(run(mode, prompts, budget=budget), run(mode, prompts), rtol=1e-5)
