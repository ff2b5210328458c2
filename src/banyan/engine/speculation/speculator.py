"""Between the engine and a proposer: whom to guess for, how much, and what it was worth.

Owned by one engine, called on its thread.
"""

from collections.abc import Iterable, Mapping, Sequence

from banyan.engine.request import Sequence as Answer
from banyan.engine.scheduler import SequenceId
from banyan.engine.speculation.proposer import DraftDemand, Proposer


class Speculator:
    """Asks a proposer for guesses that could be used.

    Args:
        proposer: guesses.
        most: most guesses for one sequence in one step.
    """

    def __init__(self, proposer: Proposer, *, most: int) -> None:
        self._proposer = proposer
        self._most = most

    def drafts(self, answers: Iterable[Answer]) -> Mapping[SequenceId, Sequence[int]]:
        """Guesses for those of the running answers that are decoding; the others have none."""
        demands, ends = [], []
        for answer in answers:
            # The token after the last guess is the model's own.
            most = min(self._most, answer.request.max_tokens - answer.num_generated - 1)
            if answer.is_decoding and most > 0:
                demands.append(DraftDemand(answer.sequence_id, answer.token_ids, most))
                ends.append(answer.request.end_token_ids | answer.request.stop_token_ids)
        guesses = self._proposer.propose(demands) if demands else []
        return {
            demand.sequence_id: _before(end, found[: demand.most])
            for demand, end, found in zip(demands, ends, guesses, strict=True)
            if found
        }

    def note(self, answer: Answer, *, num_drafted: int, num_accepted: int) -> None:
        """So many guesses for an answer were checked, and so many of them were right."""

    def forget(self, sequence_id: SequenceId) -> None:
        """A sequence ended."""
        self._proposer.forget(sequence_id)


def _before(end_token_ids: frozenset[int], guesses: list[int]) -> list[int]:
    """Guesses up to a token that would end the answer: nothing comes after it."""
    for place, token_id in enumerate(guesses):
        if token_id in end_token_ids:
            return guesses[:place]
    return guesses
