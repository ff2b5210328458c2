"""Vectors and scores from a decoder: many prompts side by side, without padding.

Every prompt of a run has blocks of its own in a paged cache, so that one longer than a step is
computed in several. Knows the names and shapes of the decoder's arguments.
Dims: S prompts of a step, T tokens of a step, B blocks, R rows that come out, H numbers of a row.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.pooling.queue import PROMPTS_PER_STEP, TOKENS_PER_STEP
from banyan.engine.runner import StepModel
from banyan.models.pairs import AnswerTokens
from banyan.models.pooling import Pooling, normalised

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens `start` .. `stop` of a prompt of the run."""

    prompt: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChoice:
    """Which rows of a prompt are asked for, and what is made of them.

    Attributes:
        output: the name of the model's output.
        of_prompt: "last", "first" or "all" rows; all are averaged.
        finish: from the rows of all prompts [S, H] to what callers get.
    """

    output: str
    of_prompt: str
    finish: Callable[[FloatArray], FloatArray]


def rows_for_vectors(pooling: Pooling) -> RowChoice:
    """Choose hidden states as a pooling says."""
    of_prompt = {"lasttoken": "last", "cls": "first", "mean": "all"}[pooling.mode]
    finish = normalised if pooling.normalise else np.ascontiguousarray
    return RowChoice(output="hidden", of_prompt=of_prompt, finish=finish)


def rows_for_labels() -> RowChoice:
    """Choose the raw scores of every label behind the last token."""
    return RowChoice(output="scores", of_prompt="last", finish=np.ascontiguousarray)


def rows_for_answers(answers: AnswerTokens) -> RowChoice:
    """Choose the log odds of the one answer against the other behind the last token."""

    def odds(logits_SV: FloatArray) -> FloatArray:
        true_S = logits_SV[:, [answers.true]]
        return true_S if answers.false is None else true_S - logits_SV[:, [answers.false]]

    return RowChoice(output="logits", of_prompt="last", finish=odds)


class DecoderRunner:
    """Makes one row per prompt with a decoder."""

    def __init__(
        self,
        model: StepModel,
        choice: RowChoice,
        *,
        max_tokens: int,
        vocab_size: int,
        tokens_per_step: int = TOKENS_PER_STEP,
    ) -> None:
        """Serve `model`, whose cache has at least `blocks_of_run(max_tokens)` blocks."""
        self.max_tokens = max_tokens
        self.vocab_size = vocab_size
        self._model = model
        self._choice = choice
        self._tokens_per_step = tokens_per_step

    def run(self, prompts: Sequence[PoolingPrompt]) -> FloatArray:
        """Return [number of prompts, H]; token types mean nothing to a decoder."""
        if not prompts:
            return np.zeros((0, 0), dtype=np.float32)
        lengths = [len(prompt.token_ids) for prompt in prompts]
        first_blocks = [0, *accumulate(blocks_for(length) for length in lengths)]
        sums: dict[int, FloatArray] = {}
        for chunks in cut_into_steps(lengths, self._tokens_per_step):
            rows = [_rows(chunk, lengths[chunk.prompt], self._choice.of_prompt) for chunk in chunks]
            arguments = _arguments(prompts, first_blocks, chunks, rows)
            found_RH = self._model.run(arguments)[self._choice.output]
            for chunk, own in zip(chunks, _split(found_RH, rows), strict=True):
                if len(own):
                    total = own.sum(axis=0, dtype=np.float32)
                    sums[chunk.prompt] = sums.get(chunk.prompt, np.float32(0)) + total
        rows_SH = np.stack([sums[number] for number in range(len(prompts))])
        if self._choice.of_prompt == "all":
            rows_SH /= np.array(lengths, dtype=np.float32).reshape(-1, 1)
        return self._choice.finish(rows_SH)


def blocks_of_run(max_tokens: int) -> int:
    """Blocks that a run takes at most: many short prompts, or one of full length."""
    return max(blocks_for(TOKENS_PER_STEP) + PROMPTS_PER_STEP, blocks_for(max_tokens))


def cut_into_steps(lengths: Sequence[int], tokens_per_step: int) -> Iterator[list[Chunk]]:
    """Cut prompts, one behind the other, into steps of at most so many tokens."""
    step: list[Chunk] = []
    room = tokens_per_step
    for prompt, length in enumerate(lengths):
        start = 0
        while start < length:
            stop = min(length, start + room)
            step.append(Chunk(prompt, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield step
                step, room = [], tokens_per_step
    if step:
        yield step


def _rows(chunk: Chunk, length: int, of_prompt: str) -> NDArray[np.int64]:
    """Positions inside the chunk whose rows are wanted."""
    if of_prompt == "all":
        return np.arange(chunk.stop - chunk.start)
    wanted = length - 1 if of_prompt == "last" else 0
    inside = chunk.start <= wanted < chunk.stop
    return np.array([wanted - chunk.start] if inside else [], dtype=np.int64)


def _split(rows_RH: FloatArray, rows: Sequence[NDArray[np.int64]]) -> list[FloatArray]:
    stops = list(accumulate(map(len, rows)))
    return [rows_RH[stop - len(own) : stop] for stop, own in zip(stops, rows, strict=True)]


def _arguments(
    prompts: Sequence[PoolingPrompt],
    first_blocks: Sequence[int],
    chunks: Sequence[Chunk],
    rows: Sequence[NDArray[np.int64]],
) -> dict[str, NDArray[np.int64] | NDArray[np.int32]]:
    """Lay out one step; programs want at least one row, so one without any asks for its last."""
    starts = np.array([0, *accumulate(c.stop - c.start for c in chunks)])
    positions_T = np.concatenate([np.arange(c.start, c.stop) for c in chunks])
    firsts_T = np.concatenate(
        [np.full(c.stop - c.start, first_blocks[c.prompt] * BLOCK_SIZE) for c in chunks]
    )
    ends_S = np.array([chunk.stop for chunk in chunks], dtype=np.int32)
    firsts_S = np.array([first_blocks[chunk.prompt] for chunk in chunks], dtype=np.int32)
    counts_S = -(-ends_S // BLOCK_SIZE)
    # What stands behind a prompt's own blocks is never read, but must be a block.
    columns = np.minimum(np.arange(counts_S.max(), dtype=np.int32), counts_S[:, None] - 1)
    rows_R = np.concatenate([start + own for start, own in zip(starts, rows, strict=False)])
    return {
        "token_ids": np.concatenate(
            [np.array(prompts[c.prompt].token_ids[c.start : c.stop], np.int64) for c in chunks]
        ),
        "positions": positions_T,
        "slots": firsts_T + positions_T,
        "block_tables": (firsts_S[:, None] + columns).astype(np.int32),
        "query_starts": starts.astype(np.int32),
        "context_lengths": ends_S,
        "logit_rows": rows_R if len(rows_R) else starts[-1:] - 1,
    }
