"""What came of a load: each request's times, and the figures people compare. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from banyan.foundation.errors import InputError

PERCENTILES = (50, 95, 99)
MEASURES: Mapping[str, str] = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "time between tokens",
    "e2el": "end to end",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request as its reader saw it.

    Attributes:
        sent: seconds after the start of the run.
        pieces: when each piece of text came, seconds after `sent`; empty when none did.
        num_tokens: of the answer, as the server counted them, else one for each piece.
        num_prompt_tokens: as the server counted them, 0 when it did not say.
        num_cached_tokens: those of the prompt that it did not compute again, as it says.
        problem: why there is no whole answer, as short as a status; None when there is.
    """

    sent: float
    pieces: tuple[float, ...] = ()
    num_tokens: int = 0
    num_prompt_tokens: int = 0
    problem: str | None = None
    num_cached_tokens: int = 0

    def times(self) -> dict[str, tuple[float, ...]]:
        """Seconds by measure; "itl" has many, the others one, or none for too short answers."""
        if self.problem is not None or not self.pieces:
            return {name: () for name in MEASURES}
        first, last = self.pieces[0], self.pieces[-1]
        later = self.num_tokens - 1
        gaps = pairwise(self.pieces)
        return {
            "ttft": (first,),
            "tpot": ((last - first) / later,) if later > 0 else (),
            "itl": tuple(after - before for before, after in gaps),
            "e2el": (last,),
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one run.

    Attributes:
        num_asked, num_whole: requests, and those answered to the end.
        problems: how often each other end came.
        seconds: from the first request to the last answer.
        prompt_tokens, answer_tokens: of whole answers.
        cached_tokens: those prompt tokens that were not computed again.
        milliseconds: measure to "mean", "p50", ... ; measures without a value are left out.
        goals: milliseconds by measure that an answer must keep to count as good.
        num_good: whole answers within all goals.
    """

    num_asked: int
    num_whole: int
    problems: Mapping[str, int]
    seconds: float
    prompt_tokens: int
    answer_tokens: int
    milliseconds: Mapping[str, Mapping[str, float]]
    goals: Mapping[str, float] = field(default_factory=dict)
    num_good: int = 0
    cached_tokens: int = 0

    @property
    def goodput(self) -> float:
        """Good answers in a second."""
        return self.num_good / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of answers in a second."""
        return self.answer_tokens / self.seconds if self.seconds else 0.0

    def plain(self) -> dict[str, Any]:
        """The figures as JSON values."""
        counts = ("num_asked", "num_whole", "num_good", "seconds")
        tokens = ("prompt_tokens", "cached_tokens", "answer_tokens")
        return {
            **{name: getattr(self, name) for name in (*counts, *tokens)},
            "problems": dict(self.problems),
            "milliseconds": {name: dict(row) for name, row in self.milliseconds.items()},
            "goals": dict(self.goals),
            "goodput": self.goodput,
            "requests_per_second": self.num_whole / self.seconds if self.seconds else 0.0,
            "tokens_per_second": self.tokens_per_second,
        }


def summarise(outcomes: Sequence[Outcome], goals: Mapping[str, float]) -> Summary:
    """Sum up a run; `goals` are milliseconds by measure.

    Raises:
        InputError: a goal for no known measure.
    """
    for name in goals:
        if name not in MEASURES:
            raise InputError(f"there is no measure {name!r}; goals are for {', '.join(MEASURES)}")
    whole = [outcome for outcome in outcomes if outcome.problem is None]
    times = [outcome.times() for outcome in whole]
    ends = [outcome.sent + (outcome.pieces[-1] if outcome.pieces else 0.0) for outcome in whole]
    begun = min((outcome.sent for outcome in outcomes), default=0.0)
    rows = {name: sorted(t for one in times for t in one[name]) for name in MEASURES}
    return Summary(
        num_asked=len(outcomes),
        num_whole=len(whole),
        problems=Counter(o.problem for o in outcomes if o.problem is not None),
        seconds=max(ends, default=begun) - begun,
        prompt_tokens=sum(outcome.num_prompt_tokens for outcome in whole),
        answer_tokens=sum(outcome.num_tokens for outcome in whole),
        milliseconds={name: _figures(row) for name, row in rows.items() if row},
        goals=dict(goals),
        num_good=sum(_is_good(one, goals) for one in times),
        cached_tokens=sum(outcome.num_cached_tokens for outcome in whole),
    )


def percentile(row: Sequence[float], share: float) -> float:
    """The value that `share` percent of a sorted, non-empty row do not exceed (nearest rank)."""
    return row[max(0, math.ceil(share / 100 * len(row)) - 1)]


def read_goals(texts: Sequence[str]) -> dict[str, float]:
    """Read goals such as "ttft:500", in milliseconds.

    Raises:
        InputError: not of that form.
    """
    goals = {}
    for text in texts:
        name, _, number = text.partition(":")
        try:
            goals[name] = float(number)
        except ValueError as error:
            raise InputError(
                f"the goal {text!r} cannot be read; write a measure and milliseconds, such as "
                "ttft:500"
            ) from error
    return goals


def _figures(row: Sequence[float]) -> dict[str, float]:
    figures = {"mean": sum(row) / len(row)}
    figures |= {f"p{share}": percentile(row, share) for share in PERCENTILES}
    return {name: round(1e3 * value, 3) for name, value in figures.items()}


def _is_good(times: Mapping[str, tuple[float, ...]], goals: Mapping[str, float]) -> bool:
    return all(1e3 * max(times[name], default=0.0) <= limit for name, limit in goals.items())
