"""When the next micro-batch may start, so that the tokens in the cache never exceed a limit. Pure.

The load-stabilising schedule of FastDecode (He and Zhai, arXiv 2403.11421). Workers that hold the
cache need time in proportion to the tokens in it. Sequences that start together also end together,
and the load swings between nothing and its peak; started in micro-batches it stays even, at half
of that peak.

The load falls only when a micro-batch ends, so it is highest at the end of some micro-batch: these
steps alone have to be looked at. Time is counted in steps; a sequence adds one token in each. The
paper's rule has sequences of one length; here prompts and answers may differ between micro-batches.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from banyan.foundation.errors import InputError


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Sequences that start together.

    Attributes:
        num_sequences: how many.
        answer_tokens: that each writes, and so the steps it stays.
        prompt_tokens: that each has in the cache from its first step on.
    """

    num_sequences: int
    answer_tokens: int
    prompt_tokens: int = 0

    @property
    def peak(self) -> int:
        """Tokens it has in the cache in its last step."""
        return self.num_sequences * (self.prompt_tokens + self.answer_tokens)

    def load(self, age: int) -> int:
        """Tokens it has in the cache `age` steps after its start; none before and behind."""
        if not 0 <= age <= self.answer_tokens:
            return 0
        return self.num_sequences * (self.prompt_tokens + age)


@dataclass(frozen=True, slots=True)
class Flight:
    """A micro-batch under way.

    Attributes:
        batch: its sequences.
        start: its first step.
        load_at_end: tokens of all micro-batches in the cache when it ends.
    """

    batch: MicroBatch
    start: int
    load_at_end: int

    @property
    def end(self) -> int:
        """Its last step."""
        return self.start + self.batch.answer_tokens


@dataclass(frozen=True, slots=True)
class LoadControl:
    """What is under way, and the most tokens that may be in the cache at once.

    Attributes:
        limit: tokens.
        flights: micro-batches under way.
        interval: steps between two starts at least. With 0, about half of all sequences start in
            the first step of all, and go on as one large micro-batch. Nobody overtakes: a start is
            never before the one that was decided on before it.
    """

    limit: int
    flights: tuple[Flight, ...] = ()
    interval: int = 0

    def load(self, step: int) -> int:
        """Tokens in the cache at a step, if nothing else starts."""
        return sum(flight.batch.load(step - flight.start) for flight in self.flights)

    def earliest_start(self, batch: MicroBatch, now: int) -> int:
        """The first step from `now` on, behind earlier starts, at which a micro-batch may start.

        Raises:
            InputError: it does not fit even alone.
        """
        if batch.peak > self.limit:
            raise InputError(
                f"{batch.num_sequences} sequences of {batch.prompt_tokens + batch.answer_tokens} "
                f"tokens exceed the load limit of {self.limit} tokens; start fewer at once, or "
                "raise the limit"
            )
        last = max((flight.start for flight in self.flights), default=now - self.interval)
        step = max(now, last + self.interval)
        while (later := self._later_start(batch, step)) > step:
            step = later
        return step

    def start(self, batch: MicroBatch, step: int) -> "LoadControl":
        """With a micro-batch that starts at a step; those that ended before are forgotten."""
        alive = [flight for flight in self.flights if flight.end >= step]
        raised = tuple(
            Flight(
                flight.batch,
                flight.start,
                flight.load_at_end + batch.load(flight.end - step),
            )
            for flight in alive
        )
        end = step + batch.answer_tokens
        others = sum(flight.batch.load(end - flight.start) for flight in alive)
        added = Flight(batch, step, batch.peak + others)
        return LoadControl(self.limit, (*raised, added), self.interval)

    def with_running(self, batches: Iterable[MicroBatch], now: int) -> "LoadControl":
        """With all that is under way at a step, each as it stands then, in place of what was noted.

        What really runs is never quite what was expected when it started: answers end early, or
        guesses make them faster.
        """
        flights = []
        num_sequences = num_tokens = 0
        latest_first = sorted(batches, key=_steps_left, reverse=True)
        for steps_left, ending in groupby(latest_first, key=_steps_left):
            together = list(ending)
            num_sequences += sum(batch.num_sequences for batch in together)
            num_tokens += sum(batch.num_sequences * batch.prompt_tokens for batch in together)
            load_at_end = num_tokens + num_sequences * steps_left
            flights += [Flight(batch, now, load_at_end) for batch in together]
        return LoadControl(self.limit, tuple(flights), self.interval)

    def _later_start(self, batch: MicroBatch, step: int) -> int:
        """`step` when it may start there; else a later one, with none between that would do."""
        end = step + batch.answer_tokens
        found = step
        for flight in self.flights:
            if step <= flight.end <= end:
                room = (self.limit - flight.load_at_end) // batch.num_sequences
                # Tokens each may have written by then; below none it has to wait for that end.
                written = max(room - batch.prompt_tokens, -1)
                found = max(found, flight.end - written)
        others = sum(flight.batch.load(end - flight.start) for flight in self.flights)
        if batch.peak + others > self.limit:
            # What is there at its own end only grows until one of the others leaves before it.
            leaving = min(flight.end for flight in self.flights if flight.end >= end)
            found = max(found, leaving + 1 - batch.answer_tokens)
        return found


def _steps_left(batch: MicroBatch) -> int:
    return batch.answer_tokens


def peak_load(num_sequences: int, answer_tokens: int, interval: int) -> float:
    """The most tokens in the cache when micro-batches start every `interval` steps.

    `interval` = `answer_tokens` starts all together: the peak is then the largest there can be.
    """
    return num_sequences * (answer_tokens + interval) / 2


def micro_batch_size(num_sequences: int, answer_tokens: int, interval: int) -> int:
    """Sequences to start every `interval` steps so that `num_sequences` are under way.

    Raises:
        InputError: that is no whole number of sequences.
    """
    size, rest = divmod(num_sequences * interval, answer_tokens)
    if rest or not size:
        raise InputError(
            f"{num_sequences} sequences of {answer_tokens} tokens cannot start in equal groups "
            f"every {interval} steps; choose numbers so that {num_sequences} x {interval} is a "
            f"multiple of {answer_tokens}"
        )
    return size
