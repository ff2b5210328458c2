"""Replies of `POST /v1/completions`, whole and streamed."""

import msgspec

from banyan.gateway.replies.prompt_logprobs import PromptLogprobs
from banyan.gateway.replies.usage import Usage


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Log-probabilities of a plain completion; offsets count characters of its text.

    The first token of an echoed prompt has none.
    """

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One of the completions: prompt p's k-th has index p * n + k.

    The fields after `finish_reason` are vLLM's.
    """

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    prompt_logprobs: PromptLogprobs | msgspec.UnsetType = msgspec.UNSET
    prompt_token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `POST /v1/completions`, and one event of its stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None | msgspec.UnsetType = msgspec.UNSET
    system_fingerprint: str | None = None
