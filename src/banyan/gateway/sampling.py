"""From the fields of a request to the engine's `SamplingOptions`.

Owns defaults: what the caller leaves out comes from the model's `generation_config.json`, then
from OpenAI. Ranges are the engine's business: `SamplingOptions` checks them.
"""

from collections.abc import Mapping
from typing import Any

from banyan.engine.sampling import SamplingOptions
from banyan.engine.structure.definition import Structure
from banyan.gateway.errors import refuse
from banyan.gateway.wire.chat import ChatRequest
from banyan.gateway.wire.completions import CompletionRequest
from banyan.gateway.wire.sampling_fields import SamplingFields

# Fields that carry the same name and meaning on both sides.
_SAME_NAMES = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "min_tokens",
    "n",
)
# OpenAI's default length of a plain completion.
_COMPLETION_MAX_TOKENS = 16


def chat_options(
    request: ChatRequest, defaults: Mapping[str, Any], structure: Structure | None = None
) -> SamplingOptions:
    """Read the options of a chat request; an answer may fill the context by default.

    Raises:
        RequestError: a value is out of its range.
    """
    both = (request.max_tokens, request.max_completion_tokens)
    if None not in both and both[0] != both[1]:
        raise refuse(
            f"max_tokens={both[0]} and max_completion_tokens={both[1]} differ; send one of them",
            parameter="max_completion_tokens",
        )
    if request.top_logprobs is not None and not request.logprobs:
        raise refuse("top_logprobs needs logprobs=true", parameter="top_logprobs")
    max_tokens = both[0] if both[0] is not None else both[1]
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return _options(
        request, defaults, max_tokens=max_tokens, logprobs=logprobs, structure=structure
    )


def completion_options(
    request: CompletionRequest, defaults: Mapping[str, Any], structure: Structure | None = None
) -> SamplingOptions:
    """Read the options of a plain completion; it has 16 tokens by default.

    Raises:
        RequestError: a value is out of its range.
    """
    max_tokens = _COMPLETION_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    return _options(
        request, defaults, max_tokens=max_tokens, logprobs=request.logprobs, structure=structure
    )


def _options(
    request: SamplingFields,
    defaults: Mapping[str, Any],
    *,
    max_tokens: int | None,
    logprobs: int | None,
    structure: Structure | None,
) -> SamplingOptions:
    given = {name: getattr(request, name) for name in _SAME_NAMES}
    chosen = dict(defaults) | {name: value for name, value in given.items() if value is not None}
    return SamplingOptions(
        **chosen,
        max_tokens=max_tokens,
        logprobs=logprobs,
        logit_bias=_logit_bias(request.logit_bias),
        structure=structure,
    )


def _logit_bias(bias: Mapping[str, float] | None) -> dict[int, float] | None:
    """Read token ids, which JSON can only write as strings."""
    if bias is None:
        return None
    for token_id in bias:
        if not (token_id.isascii() and token_id.isdigit() and len(token_id) < 10):
            raise refuse(
                f"logit_bias has the key {token_id!r}; keys are token ids such as '42'",
                parameter="logit_bias",
            )
    return {int(token_id): value for token_id, value in bias.items()}
