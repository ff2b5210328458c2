"""What guesses the next tokens of a sequence. The engine checks; a wrong guess costs time only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from banyan.engine.scheduling.scheduler import SequenceId


@dataclass(frozen=True, slots=True)
class DraftDemand:
    """A sequence whose next tokens are wanted.

    Attributes:
        sequence_id: never used again once it was forgotten.
        token_ids: prompt and answer so far. It only grows from call to call; not to be changed.
        most: how many guesses could be used, 1 or more.
    """

    sequence_id: SequenceId
    token_ids: Sequence[int]
    most: int


class Proposer(Protocol):
    """Guesses tokens; keeps what it likes between calls.

    Attributes:
        is_free: guessing takes no time to speak of, so it may be done just to see.
    """

    @property
    def is_free(self) -> bool:
        """See above."""
        ...

    def propose(self, demands: Sequence[DraftDemand]) -> list[list[int]]:
        """Return up to `most` guesses for each demand, in order; none where it has no idea."""
        ...

    def forget(self, sequence_id: SequenceId) -> None:
        """A sequence ended, or waits anew; one that was never heard of is no error."""
        ...
