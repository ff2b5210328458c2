"""Whether a request can be served at all, and with how many tokens. Pure; raises or answers.

A request that cannot be served is told so before it waits for anything.
"""

from collections.abc import Collection, Sequence

from banyan.engine.adapters.library import AdapterLibrary, LoadedAdapter
from banyan.engine.options import EngineLimits
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.requests.request import Request
from banyan.engine.sampling import SamplingOptions
from banyan.engine.vision.prompt_sight import PromptSight
from banyan.foundation.errors import RequestError, UnknownAdapter


def admit(
    request_id: str,
    prompt_token_ids: Sequence[int],
    options: SamplingOptions,
    context: RequestContext = ORDINARY,
    *,
    limits: EngineLimits,
    vocab_size: int,
    end_token_ids: Collection[int],
    adapters: AdapterLibrary | None = None,
    sight: PromptSight | None = None,
) -> Request:
    """Check a request against the model and the limits and make it whole.

    `max_tokens` None becomes what is left of the context; more than that is refused, as the
    OpenAI API and vLLM do.

    Raises:
        RequestError: the prompt is empty or too long, a number is outside the model, or there is no
            such adapter.
    """
    prompt = tuple(int(token_id) for token_id in prompt_token_ids)
    _check_prompt(prompt, limits=limits, vocab_size=vocab_size)
    _check_vocabulary(options, vocab_size=vocab_size)
    room = limits.max_model_len - len(prompt)
    max_tokens = room if options.max_tokens is None else options.max_tokens
    if max_tokens > room:
        raise RequestError(
            f"the prompt has {len(prompt)} tokens and max_tokens={max_tokens}, together "
            f"{len(prompt) + max_tokens}, but the context holds {limits.max_model_len}; "
            f"set max_tokens to {room} or less, or shorten the prompt",
            parameter="max_tokens",
        )
    if options.min_tokens > max_tokens:
        raise RequestError(
            f"min_tokens={options.min_tokens} cannot be reached: the context has room for "
            f"{room} more tokens",
            parameter="min_tokens",
        )
    return Request(
        request_id=request_id,
        prompt_token_ids=prompt,
        options=options,
        context=context,
        max_tokens=max_tokens,
        stop_token_ids=frozenset(options.stop_token_ids),
        end_token_ids=frozenset() if options.ignore_eos else frozenset(end_token_ids),
        adapter=_adapter(context.adapter, adapters),
        sight=sight,
    )


def _adapter(name: str | None, adapters: AdapterLibrary | None) -> LoadedAdapter | None:
    if name is None:
        return None
    if adapters is None:
        raise UnknownAdapter(
            f"no adapter {name!r} is loaded; the engine was started without enable_lora",
            parameter="model",
        )
    return adapters.named(name)


def _check_prompt(prompt: tuple[int, ...], *, limits: EngineLimits, vocab_size: int) -> None:
    if not prompt:
        raise RequestError("the prompt is empty; give at least one token", parameter="prompt")
    if len(prompt) >= limits.max_model_len:
        raise RequestError(
            f"the prompt has {len(prompt)} tokens, but the context holds "
            f"{limits.max_model_len} and one must be left for the answer; shorten the prompt",
            parameter="prompt",
        )
    lowest, highest = min(prompt), max(prompt)
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise RequestError(
            f"the prompt holds token id {wrong}; ids of this model are 0 to {vocab_size - 1}",
            parameter="prompt",
        )


def _check_vocabulary(options: SamplingOptions, *, vocab_size: int) -> None:
    for name, ids in (
        ("stop_token_ids", options.stop_token_ids),
        ("logit_bias", tuple(options.logit_bias or ())),
        ("allowed_token_ids", options.allowed_token_ids or ()),
        ("bad_token_sequences", [token for one in options.bad_token_sequences for token in one]),
    ):
        for token_id in ids:
            if token_id >= vocab_size:
                raise RequestError(
                    f"{name} holds token id {token_id}; ids of this model are 0 to "
                    f"{vocab_size - 1}",
                    parameter=name,
                )
