"""From chosen tokens to the event their reader sees: text, end, reason.

Changes the answer's tokens and text, nothing else; blocks and lanes are the engine's.
"""

from collections import abc
from dataclasses import dataclass

from banyan.engine.events import FinishReason, TokenEvent
from banyan.engine.requests.request import Sequence
from banyan.engine.tokens.sampler import SampledToken

_NO_CHOICE = "no token can be chosen: the logits are not numbers, or every token is forbidden"


@dataclass(frozen=True, slots=True)
class _Ending:
    """Why an answer ends, as in `TokenEvent`."""

    finish_reason: FinishReason
    stop_reason: int | str | None = None


def advance(answer: Sequence, chosen: abc.Sequence[SampledToken]) -> TokenEvent:
    """Add chosen tokens to an answer, up to the one that ends it; the event says whether one did.

    What the tokens and their text are does not depend on how many come at once.
    """
    text, taken, ending = "", [], None
    for sampled in chosen:
        if sampled.token_id is None:
            ending = _Ending("error", sampled.problem or _NO_CHOICE)
            break
        taken.append(sampled)
        answer.token_ids.append(sampled.token_id)
        more, ending = _read(answer, sampled.token_id, completes=sampled.completes)
        text += more
        if ending is not None:
            break
    if ending is None:
        return event_of(answer, text=text, finish_reason=None, chosen=taken)
    return event_of(
        answer,
        text=text + answer.text.finish(),
        finish_reason=ending.finish_reason,
        stop_reason=ending.stop_reason,
        chosen=taken,
    )


def replay(answer: Sequence, token_ids: abc.Iterable[int]) -> None:
    """Take up an answer behind tokens that were chosen, and told, elsewhere."""
    for token_id in token_ids:
        answer.prompt_scores = None  # told with the first token
        answer.token_ids.append(token_id)
        answer.sampler.replay(token_id)
        _read(answer, token_id, completes=False)


def _read(answer: Sequence, token_id: int, *, completes: bool) -> tuple[str, _Ending | None]:
    """Text of the token just added, and whether it ends the answer."""
    request, options = answer.request, answer.request.options
    is_end = token_id in request.end_token_ids
    may_stop = answer.num_generated >= options.min_tokens
    ends = may_stop and (is_end or token_id in request.stop_token_ids)
    text = ""
    if not ends or options.include_stop_str_in_output:
        text = answer.text.push(token_id, may_stop=may_stop)
    if ends:
        return text, _Ending("stop", None if is_end else token_id)
    if answer.text.found_stop is not None:
        return text, _Ending("stop", answer.text.found_stop)
    if completes:
        return text, _Ending("stop")
    if answer.num_generated >= request.max_tokens:
        return text, _Ending("length")
    return text, None


def event_of(
    answer: Sequence,
    *,
    text: str,
    finish_reason: FinishReason | None,
    stop_reason: int | str | None = None,
    chosen: abc.Sequence[SampledToken] = (),
) -> TokenEvent:
    """Describe what is new in an answer; `chosen` are its new tokens, in order."""
    token_ids = tuple(sampled.token_id for sampled in chosen if sampled.token_id is not None)
    logprobs = tuple(sampled.logprob for sampled in chosen if sampled.logprob is not None)
    is_first = bool(token_ids) and answer.num_generated == len(token_ids)
    scores = answer.prompt_scores if is_first else None
    return TokenEvent(
        request_id=answer.request.request_id,
        index=answer.index,
        token_ids=token_ids,
        text=text,
        logprobs=logprobs or None,
        finish_reason=finish_reason,
        num_prompt_tokens=len(answer.request.prompt_token_ids),
        num_generated_tokens=answer.num_generated,
        stop_reason=stop_reason,
        num_cached_tokens=answer.num_cached_tokens or 0,
        queued_seconds=answer.queued_seconds,
        prompt_logprobs=None if scores is None else scores.entries,
    )
