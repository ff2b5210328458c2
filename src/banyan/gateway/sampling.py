"""From the fields of a request to the engine's `SamplingOptions`.

Owns defaults: what the caller leaves out comes from the model's `generation_config.json`, then
from OpenAI. Ranges are the engine's business: `SamplingOptions` checks them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from banyan.engine.sampling import MAX_STOP_CHARACTERS, MAX_STOP_STRINGS, SamplingOptions
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
    "allowed_token_ids",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "prompt_logprobs",
)
# OpenAI's default length of a plain completion.
_COMPLETION_MAX_TOKENS = 16

Encode = Callable[[str], list[int]]


def chat_options(
    request: ChatRequest,
    defaults: Mapping[str, Any],
    structure: Structure | None = None,
    *,
    encode: Encode,
) -> SamplingOptions:
    """Read the options of a chat request; an answer may fill the context by default.

    `encode` turns words into tokens, without special ones.

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
    given = _given(request, encode)
    return SamplingOptions(
        **(dict(defaults) | given),
        max_tokens=max_tokens,
        logprobs=logprobs,
        structure=structure,
    )


def completion_options(
    request: CompletionRequest,
    defaults: Mapping[str, Any],
    structure: Structure | None = None,
    *,
    encode: Encode,
) -> SamplingOptions:
    """Read the options of a plain completion; it has 16 tokens by default.

    With `best_of` so many answers are made, with the log probabilities to choose among them;
    with `echo` and `logprobs` the prompt is scored, too.

    Raises:
        RequestError: a value is out of its range.
    """
    given = _given(request, encode)
    logprobs = request.logprobs
    if request.echo and logprobs is not None:
        given.setdefault("prompt_logprobs", logprobs)
    if request.best_of is not None and request.best_of > (request.n or 1):
        given["n"] = request.best_of
        logprobs = logprobs or 0
    max_tokens = _COMPLETION_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    return SamplingOptions(
        **(dict(defaults) | given),
        # Nothing but the echo is wanted of 0 tokens; the one that is made is left out later.
        max_tokens=max(max_tokens, 1) if request.echo else max_tokens,
        logprobs=logprobs,
        structure=structure,
    )


def _given(request: SamplingFields, encode: Encode) -> dict[str, Any]:
    """What the caller chose, by the engine's names."""
    given = {name: getattr(request, name) for name in _SAME_NAMES}
    given["logit_bias"] = _logit_bias(request.logit_bias)
    given["bad_token_sequences"] = _bad_words(request.bad_words, encode)
    return {name: value for name, value in given.items() if value is not None}


def _bad_words(words: Sequence[str] | None, encode: Encode) -> list[list[int]] | None:
    """Turn words into the tokens they begin a text with and those they follow a space with."""
    if words is None:
        return None
    if len(words) > MAX_STOP_STRINGS:
        raise refuse(
            f"bad_words has {len(words)} texts; at most {MAX_STOP_STRINGS} are allowed",
            parameter="bad_words",
        )
    found: dict[tuple[int, ...], None] = {}
    for word in words:
        bare = word.strip()
        if not bare or len(word) > MAX_STOP_CHARACTERS:
            raise refuse(
                f"bad_words has a text of {len(bare)} characters; give 1 to {MAX_STOP_CHARACTERS}",
                parameter="bad_words",
            )
        found |= dict.fromkeys((tuple(encode(bare)), tuple(encode(f" {bare}"))))
    return [list(tokens) for tokens in found]


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
