"""From a chosen token to the event its reader sees: text, end, reason.

Changes the answer's tokens and text, nothing else; blocks and lanes are the engine's.
"""

from banyan.engine.events import FinishReason, TokenEvent
from banyan.engine.request import Sequence
from banyan.engine.sampler import SampledToken

_NO_CHOICE = "no token can be chosen: the logits are not numbers, or every token is forbidden"


def advance(answer: Sequence, sampled: SampledToken) -> TokenEvent:
    """Add a chosen token to an answer; the event says whether that ended it."""
    if sampled.token_id is None:
        return event_of(
            answer, text=answer.text.finish(), finish_reason="error", stop_reason=_NO_CHOICE
        )
    answer.token_ids.append(sampled.token_id)
    options = answer.request.options
    finish_reason = _ending_token(answer, sampled.token_id)
    stop_reason: int | str | None = None
    text = ""
    if finish_reason is None or options.include_stop_str_in_output:
        may_stop = answer.num_generated >= options.min_tokens
        text = answer.text.push(sampled.token_id, may_stop=may_stop)
    if finish_reason is not None:
        is_end_token = sampled.token_id in answer.request.end_token_ids
        stop_reason = None if is_end_token else sampled.token_id
    elif answer.text.found_stop is not None:
        finish_reason, stop_reason = "stop", answer.text.found_stop
    elif answer.num_generated >= answer.request.max_tokens:
        finish_reason = "length"
    if finish_reason is not None:
        text += answer.text.finish()
    return event_of(
        answer, text=text, finish_reason=finish_reason, stop_reason=stop_reason, sampled=sampled
    )


def event_of(
    answer: Sequence,
    *,
    text: str,
    finish_reason: FinishReason | None,
    stop_reason: int | str | None = None,
    sampled: SampledToken | None = None,
) -> TokenEvent:
    """Describe what is new in an answer; without `sampled` there is no new token."""
    has_token = sampled is not None and sampled.token_id is not None
    return TokenEvent(
        request_id=answer.request.request_id,
        index=answer.index,
        token_ids=(answer.token_ids[-1],) if has_token else (),
        text=text,
        logprobs=(sampled.logprob,) if sampled is not None and sampled.logprob else None,
        finish_reason=finish_reason,
        num_prompt_tokens=len(answer.request.prompt_token_ids),
        num_generated_tokens=answer.num_generated,
        stop_reason=stop_reason,
    )


def _ending_token(answer: Sequence, token_id: int) -> FinishReason | None:
    request = answer.request
    ends = token_id in request.end_token_ids or token_id in request.stop_token_ids
    return "stop" if ends and answer.num_generated >= request.options.min_tokens else None
