"""How many steps of a model are under way at once. Pure: times come in as arguments.

Several steps keep several places busy: while one attends, another computes the dense layers. But
each reads all weights for its share of the batch, has its own messages and leaves smaller pieces.
`planner.host_attention` bounds from above what that can win; what it does win depends on machine,
model and load, so it is measured while answers are written. Called by `engine.steps`.
"""

import statistics
from dataclasses import dataclass, field
from typing import Protocol

from banyan.engine.scheduling.scheduler import Step

# Rounds of a depth in one bout of a trial, and how many of them come first and do not count: the
# pipeline is filled or emptied in them.
_BOUT_ROUNDS = 7
_SETTLING_ROUNDS = 2
# So many pairs of bouts that say the same end a trial.
_MAJORITY = 3
# Steps are as long as others on the machine let them be: what seems a little better is chance.
_LEAST_GAIN = 0.03
_FIRST_PAUSE = 8
_SHORTEST_PAUSE = 120
_LONGEST_PAUSE = 7680


class PipelineDepth(Protocol):
    """Says how many steps may be under way."""

    @property
    def most(self) -> int:
        """The most there ever are."""
        ...

    @property
    def current(self) -> int:
        """How many there may be now; changes in `note` alone."""
        ...

    def note(self, step: Step, *, num_running: int, num_under_way: int, now: float) -> None:
        """Learn that a step is over.

        Args:
            step: what it computed.
            num_running: sequences that run.
            num_under_way: steps that were under way, this one included.
            now: seconds.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedDepth:
    """Always as many."""

    most: int

    @property
    def current(self) -> int:
        """As many as ever."""
        return self.most

    def note(self, step: Step, *, num_running: int, num_under_way: int, now: float) -> None:
        """Nothing is learned."""


@dataclass(slots=True)
class _Choice:
    """What is known for about so many sequences.

    Attributes:
        depth: the best so far.
        rest: rounds until another is tried.
        pause: rounds from a trial that changed nothing to the next.
        goes_up: the next trial is of more steps, where more are possible.
    """

    depth: int
    rest: int = _FIRST_PAUSE
    pause: int = _SHORTEST_PAUSE
    goes_up: bool = True


@dataclass(slots=True)
class _Trial:
    """Two depths in turns, over the same answers.

    Attributes:
        choice: what it is about.
        depths: the one on trial, then the one that is chosen.
        num_running: sequences when it began.
        bout: its number; even ones are of the depth on trial.
        round_: of the bout.
        first: of the bout before, the median seconds of a token; None where none was seen.
        num_better: pairs of bouts in which the one on trial was faster.
        num_others: pairs in which it was not, or in which too little was seen.
        seen: seconds of a token in this bout.
    """

    choice: _Choice
    depths: tuple[int, int]
    num_running: int
    bout: int = 0
    round_: int = 0
    first: float | None = None
    num_better: int = 0
    num_others: int = 0
    seen: list[float] = field(default_factory=list)

    @property
    def depth(self) -> int:
        return self.depths[self.bout % 2]

    @property
    def is_over(self) -> bool:
        return max(self.num_better, self.num_others) == _MAJORITY

    def note_round(self, seconds: float | None) -> None:
        """A round is over; `seconds` of a token, None where others than answers were computed."""
        if seconds is not None and self.round_ >= _SETTLING_ROUNDS:
            self.seen.append(seconds)
        self.round_ += 1
        if self.round_ == _BOUT_ROUNDS:
            self._end_bout(statistics.median(self.seen) if self.seen else None)

    def _end_bout(self, found: float | None) -> None:
        if self.bout % 2 == 0:
            self.first = found
        elif self.first is not None and found and self.first < (1 - _LEAST_GAIN) * found:
            self.num_better += 1
        else:
            self.num_others += 1
        self.seen.clear()
        self.round_ = 0
        self.bout += 1


class LearnedDepth:
    """Tries now and then whether more or fewer steps write answers faster, and keeps what does.

    Depths are compared in turns over the same sequences, by rounds in which every sequence gets one
    token and no prompt is computed. What is learned holds for about so many sequences: with more of
    them another depth may be best. Trials that change nothing become rare.
    """

    def __init__(self, *, usual: int, most: int) -> None:
        """Start with the depth that a plan makes likely.

        Args:
            usual: steps with every one at another place, 1 or more.
            most: not more than this.
        """
        self._most = most
        self._depths = sorted({1, min(usual, most), most})
        self._usual = min(usual, most)
        self._choices: dict[int, _Choice] = {}
        self._trial: _Trial | None = None
        self._current = self._usual
        self._num_steps = self._num_tokens = 0
        self._is_sound = False
        self._round_began = 0.0

    @property
    def most(self) -> int:
        """See `PipelineDepth`."""
        return self._most

    @property
    def current(self) -> int:
        """See `PipelineDepth`."""
        return self._current

    def note(self, step: Step, *, num_running: int, num_under_way: int, now: float) -> None:
        """See `PipelineDepth`."""
        num_decoded = step.num_decoded
        if num_decoded is None or num_under_way < self._current:
            self._is_sound = False
        else:
            self._num_tokens += num_decoded
        self._num_steps += 1
        if self._num_steps >= self._current:
            seconds = now - self._round_began
            is_sound = self._is_sound and self._num_tokens > 0
            self._end_round(seconds / self._num_tokens if is_sound else None, num_running)
            self._begin_round(now)

    def _begin_round(self, now: float) -> None:
        self._num_steps = self._num_tokens = 0
        self._is_sound = True
        self._round_began = now

    def _end_round(self, seconds: float | None, num_running: int) -> None:
        trial = self._trial
        if trial is not None and not trial.num_running <= 2 * num_running <= 4 * trial.num_running:
            # Too many came or left to compare what was before with what follows.
            trial.choice.rest = trial.choice.pause
            trial = None
        elif trial is not None:
            trial.note_round(seconds)
            if trial.is_over:
                self._judge(trial)
                trial = None
        self._trial = trial or self._next_trial(num_running)
        self._current = (
            self._choice(num_running).depth if self._trial is None else self._trial.depth
        )

    def _next_trial(self, num_running: int) -> _Trial | None:
        choice = self._choice(num_running)
        choice.rest -= 1
        if choice.rest > 0 or num_running < 2:
            return None
        place = self._depths.index(choice.depth)
        others = self._depths[place + 1 : place + 2], self._depths[max(place - 1, 0) : place]
        above, below = others if choice.goes_up else others[::-1]
        tried = [depth for depth in (*above, *below) if depth <= num_running]
        if not tried:
            choice.rest = choice.pause
            return None
        return _Trial(choice, (tried[0], choice.depth), num_running)

    def _judge(self, trial: _Trial) -> None:
        choice, (tried, known) = trial.choice, trial.depths
        if trial.num_better == _MAJORITY:
            choice.depth, choice.pause = tried, _SHORTEST_PAUSE
            choice.goes_up = tried > known
            choice.rest = _FIRST_PAUSE
            return
        choice.goes_up = tried < known
        choice.rest = choice.pause
        choice.pause = min(2 * choice.pause, _LONGEST_PAUSE)

    def _choice(self, num_running: int) -> _Choice:
        """What is known for so many sequences; what the nearest number taught where nothing is."""
        size = num_running.bit_length()
        found = self._choices.get(size)
        if found is None:
            near = min(self._choices, key=lambda other: abs(other - size), default=None)
            depth = self._usual if near is None else self._choices[near].depth
            found = self._choices[size] = _Choice(depth)
        return found
