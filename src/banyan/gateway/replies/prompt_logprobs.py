"""Log probabilities of a prompt's tokens, in vLLM's shape."""

from typing import TypeAlias

import msgspec


class PromptLogprob(msgspec.Struct, frozen=True):
    """One token at one place of a prompt; `rank` 1 is the likeliest."""

    logprob: float
    rank: int | None
    decoded_token: str


PromptLogprobs: TypeAlias = list[dict[str, PromptLogprob] | None]
"""For each token of a prompt: its entry and the likeliest ones by token id; None for the first."""
