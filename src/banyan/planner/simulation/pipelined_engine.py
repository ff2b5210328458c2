"""One replica's engine with several steps under way, by the rules of `banyan.engine.steps`.

A step is planned over the sequences of no other step, has its share of the token budget and takes
no more than its even share of the decoding. The engine begins steps until as many are under way as
it takes, waits for the oldest, and begins again: who comes meanwhile waits for that. A test runs
the real scheduler beside it; `banyan.planner.simulation.engine` is for one step at a time.

While the same sequences decode in the same steps, round after round, only their contexts change:
those rounds are taken at once, at the pace at which they follow each other. Pure.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from banyan.planner.simulation.alike_steps import duration, steps_within
from banyan.planner.simulation.busy import BusyMeter
from banyan.planner.simulation.engine import NEVER
from banyan.planner.simulation.places import Places
from banyan.planner.simulation.requests import EngineLimits, Requests
from banyan.planner.simulation.sequences import Sequences
from banyan.planner.simulation.stage_costs import RoundTime
from banyan.planner.simulation.step_times import DecodeLine, StepTimes

_SETTLING_ROUNDS, _MEASURED_ROUNDS = 2, 4
_STRAIGHT = 1e-3


@dataclass(frozen=True, slots=True)
class _Begun:
    """A step under way.

    Attributes:
        decoding: sequences that get one token each.
        chunks: sequence, and how many tokens of its prompt.
        shares: of the time of the step, for each part.
    """

    decoding: list[int]
    chunks: list[tuple[int, int]]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Pace:
    """How rounds follow each other.

    Attributes:
        seconds: from one to the next.
        served: seconds of it that each place computes.
    """

    seconds: float
    served: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Rounds:
    """Rounds that are taken at once.

    Attributes:
        start: the end of the oldest step under way, before them.
        count: how many.
        first, last: their pace.
    """

    start: float
    count: int
    first: _Pace
    last: _Pace

    @property
    def half(self) -> float:
        """Half of what each takes more than the one before it."""
        return max(0.0, self.last.seconds - self.first.seconds) / (self.count - 1) / 2


class PipelinedEngine:
    """Runs requests; whoever owns it calls `advance` when `until` has come.

    Args:
        limits: of the engine.
        times: of steps that wait for no other; may be replaced by `change_times`.
        requests: of the whole simulation; it notes what becomes of its own.
        place_of_part: see `Places`; for each part whose share of the time `times` tell.
        bin_seconds: of the spans for which it counts how long it was busy.
        fewest_rounds: that are worth taking at once, 2 or more.

    Attributes:
        until: when the oldest step under way ends; infinite while there is nothing to do.
        meter: how busy it was.
        num_steps: finished so far.
    """

    def __init__(
        self,
        limits: EngineLimits,
        times: StepTimes,
        requests: Requests,
        place_of_part: tuple[int, ...],
        *,
        bin_seconds: float = 60.0,
        fewest_rounds: int = 6,
    ) -> None:
        self.limits = limits
        self.until = NEVER
        self.num_steps = 0
        self.meter = BusyMeter(bin_seconds)
        self._times = times
        self._requests = requests
        self._sequences = Sequences(limits, requests)
        self._places = Places(place_of_part)
        self._begun: deque[_Begun] = deque()
        self._rounds: _Rounds | None = None
        self._fewest_rounds = fewest_rounds
        # Steps in a row that did as the one before them.
        self._num_alike = 0
        self._noted = 0.0
        # Of the oldest step under way, by place.
        self._served: Sequence[float] = ()

    @property
    def free_blocks(self) -> int:
        """That nobody holds."""
        return self._sequences.free_blocks

    @property
    def num_running(self) -> int:
        """Sequences that run."""
        return self._sequences.num_running

    def arrive(self, request: int, now: float) -> None:
        """Take a request that fits into the cache alone."""
        if self.until == NEVER:
            # It begins when all that come at this moment are here.
            self.until = self._noted = now
        elif not self._sequences.num_waiting:
            self._land(now)
        self._sequences.wait(request)

    def advance(self) -> list[int]:
        """End the oldest step and begin others; returns the requests that are finished."""
        now = self.until
        if self._rounds is not None:
            self._take_rounds(self._rounds, self._rounds.count)
        ended = self._begun.popleft() if self._begun else None
        done = [] if ended is None else self._settle(ended, now)
        num_begun = self._begin(now)
        if not self._begun:
            self.until = NEVER
            return done
        # Nothing is begun before the oldest ends: the engine waits for it.
        self._served = self._places.finish()
        self.until = self._places.now
        last = self._begun[-1]
        is_alike = num_begun == 1 and ended is not None and last.decoding == ended.decoding
        self._num_alike = self._num_alike + 1 if is_alike and not last.chunks else 0
        if self._num_alike >= _SETTLING_ROUNDS * len(self._begun):
            self._look_ahead()
        return done

    def change_times(self, times: StepTimes, now: float) -> None:
        """From the next step on it is faster or slower."""
        self._land(now)
        self._times = times

    def abort(self, now: float) -> list[int]:
        """Lose everything that runs or waits; returns those requests, with the tokens they have."""
        if self.until < NEVER:
            self._land(now)
            self._note(now, (), ())
        self._begun.clear()
        self._places = Places(self._places.place_of_part)
        self._num_alike = 0
        self.until = NEVER
        return self._sequences.lose_all()

    def _begin(self, now: float) -> int:
        """Begin steps with those that rest or wait, as many as may be under way; how many began."""
        begun, num_others = self._begun, len(self._begun)
        while len(begun) < self.limits.num_in_flight:
            chosen = self._sequences.choose(sum(map(self._rows, begun)))
            if chosen is None:
                break
            begun.append(_Begun(*chosen, ()))
        self._places.now = now
        for place in range(num_others, len(begun)):
            alone, together = self._both_times(begun[place])
            self._places.begin(self._places.journey(alone, together))
            begun[place] = replace(begun[place], shares=alone.busy)
        return len(begun) - num_others

    def _rows(self, begun: _Begun) -> int:
        """Sequences of a step that get a token."""
        return len(begun.decoding) + sum(self._sequences.ends(*part) for part in begun.chunks)

    def _both_times(self, begun: _Begun) -> tuple[RoundTime, RoundTime]:
        """Of a step, while nothing else is computed and while something is."""
        alone = self._time(begun, self._times)
        beside = self._times.together
        return alone, alone if beside is self._times else self._time(begun, beside)

    def _time(self, begun: _Begun, times: StepTimes) -> RoundTime:
        sequences = self._sequences
        count = num_tokens = num_rows = len(begun.decoding)
        cached = pairs = sequences.num_known(begun.decoding)
        for request, chunk in begun.chunks:
            start = sequences.computed[request]
            num_tokens += chunk
            num_rows += sequences.ends(request, chunk)
            cached += start + chunk
            pairs += chunk * start + chunk * (chunk + 1) // 2
        if begun.chunks:
            return times.step(num_tokens, num_rows, cached, pairs)
        line = times.decode(count, cached)
        return _on(line, cached)

    def _settle(self, ended: _Begun, now: float) -> list[int]:
        """What comes of a step; returns the requests that are finished."""
        self.num_steps += 1
        self._note(now, self._served, ended.shares)
        return self._sequences.settle(ended.decoding, ended.chunks, now)

    def _note(self, now: float, served: Sequence[float], shares: Sequence[float]) -> None:
        """Count the time until now as busy, and for the parts of each place what it computed."""
        place_of_part = self._places.place_of_part
        whole = [0.0] * self._places.num_places
        for place, share in zip(place_of_part, shares, strict=False):
            whole[place] += share
        parts = [
            served[place] * share / whole[place] if share else 0.0
            for place, share in zip(place_of_part, shares, strict=False)
        ]
        self.meter.note_parts(self._noted, now, parts)
        self._noted = now

    def _look_ahead(self) -> None:
        """Take as many rounds at once as differ by their contexts only."""
        # The oldest of them is through already, and nothing was settled yet.
        most: float = self._sequences.most_rounds(one.decoding for one in self._begun)
        for one in self._begun:
            count, cached = len(one.decoding), self._sequences.num_known(one.decoding)
            for times in (self._times, self._times.together):
                most = min(most, (times.decode(count, cached).end - cached) // count)
        num_rounds = int(most)
        while num_rounds >= self._fewest_rounds:
            first, last = self._pace(1), self._pace(num_rounds)
            middle = self._pace((1 + num_rounds) // 2).seconds
            if abs(middle - (first.seconds + last.seconds) / 2) <= _STRAIGHT * middle:
                self._rounds = rounds = _Rounds(self.until, num_rounds, first, last)
                self.until += duration(first.seconds, rounds.half, num_rounds)
                return
            num_rounds //= 2

    def _pace(self, later: int) -> _Pace:
        """How rounds follow each other, so many rounds later."""
        places = self._places.copy()
        journeys = [places.journey(*self._later(one, later)) for one in self._begun]
        began, served = 0.0, [0.0] * places.num_places
        places.begin(journeys[0])
        for number in range(_SETTLING_ROUNDS + _MEASURED_ROUNDS):
            if number == _SETTLING_ROUNDS:
                began = places.now
            for journey in (*journeys[1:], journeys[0]):
                seconds = places.finish()
                places.begin(journey)
                if number >= _SETTLING_ROUNDS:
                    served = [one + more for one, more in zip(served, seconds, strict=True)]
        return _Pace(
            (places.now - began) / _MEASURED_ROUNDS,
            tuple(seconds / _MEASURED_ROUNDS for seconds in served),
        )

    def _later(self, begun: _Begun, later: int) -> tuple[RoundTime, RoundTime]:
        """The times of a step that decodes, so many rounds later."""
        count = len(begun.decoding)
        cached = self._sequences.num_known(begun.decoding)
        alone = self._times.decode(count, cached)
        together = self._times.together.decode(count, cached)
        cached += later * count
        return _on(alone, cached), _on(together, cached)

    def _land(self, now: float) -> None:
        """Of the rounds that are taken at once take those that are over, and then step by step."""
        rounds = self._rounds
        if rounds is None:
            return
        elapsed = now - rounds.start
        first, half = rounds.first.seconds, rounds.half
        self._take_rounds(rounds, steps_within(first, half, rounds.count, elapsed))
        self._num_alike = 0
        self.until = self._places.now
        while self.until < now:
            self.advance()

    def _take_rounds(self, rounds: _Rounds, count: int) -> None:
        """All steps under way were finished and begun again so many times."""
        self._rounds = None
        if not count:
            return
        end = rounds.start + duration(rounds.first.seconds, rounds.half, count)
        self.num_steps += count * len(self._begun)
        served = [
            count * (one + other) / 2
            for one, other in zip(rounds.first.served, rounds.last.served, strict=True)
        ]
        self._note(end, served, self._begun[0].shares)
        for one in self._begun:
            self._sequences.write(one.decoding, count)
        self._places.now = end


def _on(line: DecodeLine, cached: int) -> RoundTime:
    return RoundTime(line.fixed + line.slope * cached, line.busy)
