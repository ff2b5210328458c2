"""What `LLM.generate` gives back: whole answers, gathered from the engine's events."""

from collections.abc import Sequence
from dataclasses import dataclass

from banyan.engine.events import FinishReason, TokenEvent, TokenLogprob


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One finished answer.

    Attributes:
        index: 0 .. n - 1.
        text: without stop strings and special tokens, unless they were asked for.
        token_ids: all tokens, a stop or end token included.
        finish_reason: "stop", "length", or "error" with its sentence in `stop_reason`.
        stop_reason: the stop string or token that ended it; None for the model's own end.
        logprobs: one entry per token, None when not asked for.
    """

    index: int
    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    stop_reason: int | str | None
    logprobs: list[TokenLogprob] | None


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """All answers to one prompt; the short names are those of the first answer.

    Attributes:
        prompt: the text, None when tokens were given.
        prompt_token_ids: the prompt as the model saw it.
        outputs: `n` answers.
    """

    prompt: str | None
    prompt_token_ids: list[int]
    outputs: tuple[CompletionOutput, ...]

    @property
    def text(self) -> str:
        """Text of the first answer."""
        return self.outputs[0].text

    @property
    def token_ids(self) -> list[int]:
        """Tokens of the first answer."""
        return self.outputs[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first answer ended."""
        return self.outputs[0].finish_reason

    @property
    def logprobs(self) -> list[TokenLogprob] | None:
        """Log probabilities of the first answer's tokens, None when not asked for."""
        return self.outputs[0].logprobs


def gather_answer(events: Sequence[TokenEvent]) -> CompletionOutput:
    """Put the events of one finished answer together."""
    last = events[-1]
    assert last.finish_reason is not None, "the answer has not ended"
    logprobs = [entry for event in events for entry in event.logprobs or ()]
    return CompletionOutput(
        index=last.index,
        text="".join(event.text for event in events),
        token_ids=[token_id for event in events for token_id in event.token_ids],
        finish_reason=last.finish_reason,
        stop_reason=last.stop_reason,
        logprobs=logprobs or None,
    )
