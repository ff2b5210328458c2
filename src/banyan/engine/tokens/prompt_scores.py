"""Log probabilities of a prompt's own tokens.

A row of logits for each token of a prompt is asked for only here, and in small groups: all rows of
a long prompt at once would be gigabytes. Dims: R rows, V words.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from banyan.engine.events import TokenLogprob
from banyan.engine.runner import LaneSlice, Runner
from banyan.engine.tokens.sampler import token_logprob

# 64 rows of 150,000 words are 38 MB.
ROWS_AT_ONCE = 64


class PromptScores:
    """What is known so far of one prompt; its first token has no score.

    Args:
        prompt_token_ids: the prompt.
        num_top: how many likeliest tokens are named beside each token.
    """

    def __init__(self, prompt_token_ids: Sequence[int], *, num_top: int) -> None:
        self._prompt_token_ids = prompt_token_ids
        self._num_top = num_top
        self._entries: list[TokenLogprob] = []

    @property
    def entries(self) -> tuple[TokenLogprob, ...]:
        """Scores of the second token and those after it."""
        return tuple(self._entries)

    @property
    def is_complete(self) -> bool:
        """True when every token has its score."""
        return len(self._entries) == len(self._prompt_token_ids) - 1

    def add(self, position: int, logits_RV: NDArray[np.float32]) -> None:
        """Note the rows of the tokens at `position` and after; known ones are passed over."""
        for row, logits_V in enumerate(logits_RV, start=position):
            if row == len(self._entries) and not self.is_complete:
                following = self._prompt_token_ids[row + 1]
                self._entries.append(token_logprob(logits_V, following, self._num_top))


def score_slice(runner: Runner, scores: PromptScores, slice_: LaneSlice) -> LaneSlice | None:
    """Compute a slice in groups of rows and note their scores.

    Returns:
        What is left for the step: the last token when the answer begins behind it, else nothing.
    """
    num_left = min(slice_.num_logits, 1)
    end = slice_.start + slice_.num_tokens - num_left
    for start in range(slice_.start, end, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, end - start)
        scores.add(start, runner.run([LaneSlice(slice_.lane, start, count, count)]))
    return LaneSlice(slice_.lane, end, 1, 1) if num_left else None
