"""Makes the answers of a request: sampler, text and seed of each. Owns the engine's seed."""

from secrets import randbits

from banyan.engine.requests.request import Request
from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.tokens.detokenizer import (
    IncrementalDetokenizer,
    StopStringFinder,
    TextDecoder,
    TextStream,
)
from banyan.engine.tokens.sampler import SequenceSampler


class AnswerMaker:
    """Numbers answers in order of arrival.

    Args:
        tokenizer: turns tokens into text; None gives no text.
        seed: for requests that bring none; None draws a fresh one for each.
    """

    def __init__(self, tokenizer: TextDecoder | None, seed: int | None) -> None:
        self._tokenizer = tokenizer
        self._seed = seed
        self._num_requests = 0
        self._num_answers = 0

    def answers(self, request: Request, *, arrived: float) -> list[Answer]:
        """Make the `n` answers of a request; the same seed gives the same tokens again."""
        self._num_requests += 1
        entropy = self._entropy(request.options.seed)
        answers = [self._answer(request, index, entropy) for index in range(request.options.n)]
        for answer in answers:
            answer.arrived = arrived
        return answers

    def _entropy(self, seed: int | None) -> tuple[int, ...]:
        if seed is not None:
            return (0, seed % 2**64)
        if self._seed is not None:
            return (1, self._seed % 2**64, self._num_requests)
        return (2, randbits(64))

    def _answer(self, request: Request, index: int, entropy: tuple[int, ...]) -> Answer:
        self._num_answers += 1
        options = request.options
        detokenizer = None
        if self._tokenizer is not None:
            detokenizer = IncrementalDetokenizer(
                self._tokenizer,
                request.prompt_token_ids,
                skip_special_tokens=options.skip_special_tokens,
            )
        return Answer(
            SequenceId(self._num_answers),
            request,
            index=index,
            sampler=SequenceSampler(
                options,
                request.prompt_token_ids,
                end_token_ids=request.end_token_ids | request.stop_token_ids,
                entropy=(*entropy, index),
            ),
            text=TextStream(
                detokenizer,
                StopStringFinder(
                    options.stop_strings, include_in_output=options.include_stop_str_in_output
                ),
            ),
        )
