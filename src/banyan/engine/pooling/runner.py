"""What the queue needs of a model that pools, and the checks all of them begin with."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.foundation.errors import RequestError


class PoolingRunner(Protocol):
    """Makes one row of numbers per prompt: a vector, or a score for each label."""

    @property
    def max_tokens(self) -> int:
        """Longest prompt, special tokens included."""
        ...

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        ...

    def run(self, prompts: Sequence[PoolingPrompt]) -> NDArray[np.float32]:
        """Return [number of prompts, numbers of one row] for prompts that passed the check."""
        ...


def check_prompt(number: int, prompt: PoolingPrompt, *, max_tokens: int, vocab_size: int) -> None:
    """Refuse a prompt that no model can take; `number` names it in the sentence.

    Raises:
        RequestError: it is empty, too long, or holds what is no token.
    """
    token_ids = prompt.token_ids
    if not token_ids:
        raise RequestError(f"input {number} is empty; give at least one token", parameter="input")
    if len(token_ids) > max_tokens:
        raise RequestError(
            f"input {number} has {len(token_ids)} tokens; this model takes at most {max_tokens}",
            parameter="input",
        )
    if min(token_ids) < 0 or max(token_ids) >= vocab_size:
        raise RequestError(
            f"input {number} holds a token id outside 0 to {vocab_size - 1}", parameter="input"
        )
    types = prompt.token_types
    if types and (len(types) != len(token_ids) or not set(types) <= {0, 1}):
        raise RequestError(
            f"input {number} has {len(types)} token types for {len(token_ids)} tokens; give a 0 or "
            "a 1 for each token, or none at all",
            parameter="input",
        )
