"""Between the engine and a proposer: whom to guess for, how much, and what it was worth.

Owned by one engine, called on its thread: `drafts` before each step, `note` for each sequence whose
guesses were checked, `finish_step` after it; `stand_back` for those that have to make room.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.runner import LaneSlice
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.speculation.decision import Acceptance, CostMeter, Prospect, choose_counts
from banyan.engine.speculation.hidden_log import HiddenLog
from banyan.engine.speculation.proposer import DraftDemand, Proposer

# What is believed of a sequence before its first guesses were checked.
_BELIEF = 0.3
# Looking for guesses in vain may take this share of the time; where it takes more, it is done less
# often, but at least once in so many steps.
_SHARE_IN_VAIN = 0.005
_LONGEST_NAP = 12
# A sequence whose guesses do not pay is left alone for so many tokens, doubled each time.
_FIRST_REST = 2
_LONGEST_REST = 16
# The same where making guesses costs time, and how many are then tried.
_LONGEST_COSTLY_REST = 128
_TRIAL = 2


class _Record:
    """What is remembered of one sequence.

    `withheld` are guesses that were not worth checking, made when the sequence had `place` tokens;
    they are compared with what came, which costs nothing. No guesses before it has `wake` tokens.
    """

    __slots__ = ("acceptance", "place", "rest", "wake", "withheld")

    def __init__(self) -> None:
        self.acceptance = Acceptance(_BELIEF)
        self.rest = 0
        self.wake = 0
        self.place = 0
        self.withheld: Sequence[int] = ()

    def lie_down(self, place: int, guesses: Sequence[int], longest: int) -> None:
        self.rest = min(max(2 * self.rest, _FIRST_REST), longest)
        self.wake, self.place, self.withheld = place + self.rest, place, guesses

    def get_up(self, token_ids: Sequence[int]) -> None:
        """Compare withheld guesses with the tokens that came."""
        came = token_ids[self.place : self.place + len(self.withheld)]
        num_right = 0
        for guess, token_id in zip(self.withheld, came, strict=False):
            if guess != token_id:
                break
            num_right += 1
        self.acceptance.note(len(came), num_right)
        self.withheld = ()


class Speculator:
    """Asks a proposer for guesses that could be used, and checks those that pay.

    Args:
        proposer: guesses.
        most: most guesses for one sequence in one step.
        always: check every guess, whether it pays or not.
        clock: seconds, to measure steps with.
        log: where the proposer reads hidden states; None for one that reads none.
    """

    def __init__(
        self,
        proposer: Proposer,
        *,
        most: int,
        always: bool = False,
        clock: Callable[[], float] = time.perf_counter,
        log: HiddenLog | None = None,
    ) -> None:
        self._proposer = proposer
        self._log = log
        self._most = most
        self._always = always
        self._clock = clock
        self._meter = CostMeter()
        self._records: dict[SequenceId, _Record] = {}
        self._started = 0.0
        # Seconds spent in vain that later steps have to make up for.
        self._owed = 0.0

    def drafts(self, answers: Iterable[Answer]) -> Mapping[SequenceId, Sequence[int]]:
        """Guesses for those of the running answers that are decoding; often none.

        Starts the clock of the step.
        """
        self._started = self._clock()
        if self._owed > 0.0:
            return {}
        drafts = self._look(answers)
        if not drafts:
            self._owed = self._clock() - self._started
        return drafts

    def note_hidden(
        self,
        hidden_TH: NDArray[np.float32] | None,
        slices: Sequence[LaneSlice],
        *,
        answers: Iterable[Answer],
    ) -> None:
        """A step computed these slices, and gave the hidden states of their tokens.

        Heads that guess read them later; None where the model gives none. Slices of others than
        `answers` are passed over: nobody guesses for those any more.
        """
        if self._log is None or hidden_TH is None:
            return
        owners = {answer.lane: answer.sequence_id for answer in answers}
        row = 0
        for slice_ in slices:
            if slice_.lane in owners:
                rows_NH = hidden_TH[row : row + slice_.num_tokens]
                self._log.note(owners[slice_.lane], slice_.start, rows_NH)
            row += slice_.num_tokens

    def note(self, answer: Answer, *, num_drafted: int, num_accepted: int) -> None:
        """So many guesses for an answer were checked, and so many of them were right."""
        record = self._records[answer.sequence_id]
        record.acceptance.note(num_drafted, num_accepted)
        if num_accepted:
            record.rest = 0

    def finish_step(self, num_tokens: int | None) -> None:
        """A step of so many tokens ended; None when prompts were computed in it too."""
        seconds = self._clock() - self._started
        if num_tokens is not None:
            self._meter.observe(num_tokens, seconds)
        if self._owed > 0.0:
            share = _SHARE_IN_VAIN * seconds
            self._owed = min(self._owed, _LONGEST_NAP * share) - share

    def stand_back(self, sequence_id: SequenceId) -> None:
        """A sequence waits again, maybe for long: what guesses for it makes room for others."""
        self._proposer.forget(sequence_id)

    def forget(self, sequence_id: SequenceId) -> None:
        """A sequence ended."""
        self._records.pop(sequence_id, None)
        self._proposer.forget(sequence_id)

    def _look(self, answers: Iterable[Answer]) -> dict[SequenceId, Sequence[int]]:
        awake = [answer for answer in answers if self._is_awake(answer)]
        if not awake:
            return {}
        if self._proposer.is_free:
            found = self._propose(awake, [self._most] * len(awake))
            counts = self._counts(awake, list(map(len, found)))
            self._withhold(awake, found, counts)
        else:
            counts = self._counts(awake, [self._most] * len(awake))
            self._try_again(awake, counts)
            found = self._propose(awake, counts)
            self._note_silence(awake, found, counts)
        return {
            answer.sequence_id: guesses[:count]
            for answer, guesses, count in zip(awake, found, counts, strict=True)
            if count and guesses
        }

    def _is_awake(self, answer: Answer) -> bool:
        num_tokens = len(answer.token_ids)
        if num_tokens - answer.num_computed != 1 or answer.num_computed == 0:
            return False
        record = self._records.get(answer.sequence_id)
        if record is None:
            self._records[answer.sequence_id] = _Record()
        elif num_tokens < record.wake:
            return False
        elif record.withheld:
            record.get_up(answer.token_ids)
        # The token after the last guess is the model's own.
        return answer.num_generated < answer.request.max_tokens - 1

    def _propose(self, answers: Sequence[Answer], counts: Sequence[int]) -> list[list[int]]:
        wanted = [
            DraftDemand(
                answer.sequence_id,
                answer.token_ids,
                min(count, answer.request.max_tokens - answer.num_generated - 1),
            )
            for answer, count in zip(answers, counts, strict=True)
            if count
        ]
        found = iter(self._proposer.propose(wanted) if wanted else ())
        return [
            _before_end(answer, next(found)) if count else []
            for answer, count in zip(answers, counts, strict=True)
        ]

    def _counts(self, answers: Sequence[Answer], available: Sequence[int]) -> list[int]:
        if self._always:
            return list(available)
        rates = [self._records[answer.sequence_id].acceptance.rate for answer in answers]
        prospects = list(map(Prospect, available, rates))
        return choose_counts(prospects, self._meter.cost())

    def _withhold(
        self, answers: Sequence[Answer], found: Sequence[list[int]], counts: Sequence[int]
    ) -> None:
        for answer, guesses, count in zip(answers, found, counts, strict=True):
            if guesses and not count:
                record = self._records[answer.sequence_id]
                record.lie_down(len(answer.token_ids), guesses, _LONGEST_REST)

    def _note_silence(
        self, answers: Sequence[Answer], found: Sequence[list[int]], counts: Sequence[int]
    ) -> None:
        """To be asked for guesses and have none cost time: it counts as a guess that was wrong."""
        for answer, guesses, count in zip(answers, found, counts, strict=True):
            if count and not guesses:
                self._records[answer.sequence_id].acceptance.note(1, 0)

    def _try_again(self, answers: Sequence[Answer], counts: list[int]) -> None:
        """Sequences that do not pay rest, and those that have rested are tried again."""
        for place, answer in enumerate(answers):
            record = self._records[answer.sequence_id]
            if counts[place]:
                continue
            if record.rest:
                counts[place] = min(_TRIAL, self._most)
            record.lie_down(len(answer.token_ids), (), _LONGEST_COSTLY_REST)


def _before_end(answer: Answer, guesses: list[int]) -> list[int]:
    """Guesses up to a token that would end the answer: nothing comes after it."""
    ends, stops = answer.request.end_token_ids, answer.request.stop_token_ids
    for place, token_id in enumerate(guesses):
        if token_id in ends or token_id in stops:
            return guesses[:place]
    return guesses
