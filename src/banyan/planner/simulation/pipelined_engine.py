"""One replica's engine with several steps under way, by the rules of `banyan.engine.steps`.

A step is planned over the sequences of no other step, has its share of the token budget and takes
no more than its even share of the decoding. The engine begins steps until as many are under way as
it takes, waits for the oldest, and begins again: who comes meanwhile waits for that. A test runs
the real scheduler beside it; `banyan.planner.simulation.engine` is for one step at a time.

While the same sequences decode in the same steps, round after round, only their contexts change:
those rounds are taken at once, at the pace at which they follow each other. Pure.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(slots=True)
class _Begun:
    """A step under way.

    Attributes:
        end: when it is over.
        decoding: sequences that get one token each.
        chunks: sequence, and how many tokens of its prompt.
        time: how long it takes with nothing else under way.
    """

    end: float
    decoding: list[int]
    chunks: list[tuple[int, int]]
    time: RoundTime

    @property
    def num_sequences(self) -> int:
        """In it."""
        return len(self.decoding) + len(self.chunks)


@dataclass(frozen=True, slots=True)
class _Rounds:
    """Rounds that are taken at once.

    Attributes:
        count: of rounds.
        first, half: see `duration`.
        lines: of the steps under way, in their order.
    """

    count: int
    first: float
    half: float
    lines: tuple[DecodeLine, ...]


class PipelinedEngine:
    """Runs requests; whoever owns it calls `advance` when `until` has come.

    Args:
        limits: of the engine.
        times: of steps with nothing else under way; may be replaced by `change_times`.
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
        num_begun = 0
        while len(self._begun) < self.limits.num_in_flight and self._begin(now):
            num_begun += 1
        if not self._begun:
            self.until = NEVER
            return done
        self.until = self._begun[0].end
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
            self._note(now, ())
        self._begun.clear()
        self._places = Places(self._places.place_of_part)
        self._num_alike = 0
        self.until = NEVER
        return self._sequences.lose_all()

    def _begin(self, now: float) -> bool:
        """Begin a step with those that rest or wait; false when there is nothing to do."""
        num_rows = sum(map(self._rows, self._begun))
        chosen = self._sequences.choose(num_rows)
        if chosen is None:
            return False
        decoding, chunks = chosen
        time = self._time(decoding, chunks)
        end = self._places.take(now, self._places.spans(time))
        self._begun.append(_Begun(end, decoding, chunks, time))
        return True

    def _rows(self, begun: _Begun) -> int:
        """Sequences of a step that get a token."""
        return len(begun.decoding) + sum(self._sequences.ends(*part) for part in begun.chunks)

    def _time(self, decoding: list[int], chunks: Iterable[tuple[int, int]]) -> RoundTime:
        sequences = self._sequences
        count = num_tokens = num_rows = len(decoding)
        cached = pairs = sequences.num_known(decoding)
        for request, chunk in chunks:
            start = sequences.computed[request]
            num_tokens += chunk
            num_rows += sequences.ends(request, chunk)
            cached += start + chunk
            pairs += chunk * start + chunk * (chunk + 1) // 2
        if num_tokens > count:
            return self._times.step(num_tokens, num_rows, cached, pairs)
        line = self._times.decode(count, cached)
        return RoundTime(line.fixed + line.slope * cached, line.busy)

    def _settle(self, ended: _Begun, now: float) -> list[int]:
        """What comes of a step; returns the requests that are finished."""
        self.num_steps += 1
        self._note(now, [share * ended.time.seconds for share in ended.time.busy])
        return self._sequences.settle(ended.decoding, ended.chunks, now)

    def _note(self, now: float, part_seconds: Sequence[float]) -> None:
        """Count the time until now as busy, and that of the parts of a step that ends."""
        self.meter.note_parts(self._noted, now, part_seconds)
        self._noted = now

    def _look_ahead(self) -> None:
        """Take as many rounds at once as differ by their contexts only."""
        lines = list[DecodeLine]()
        most: float = self._sequences.most_rounds(one.decoding for one in self._begun)
        for one in self._begun:
            count, cached = len(one.decoding), self._sequences.num_known(one.decoding)
            line = self._times.decode(count, cached)
            lines.append(line)
            most = min(most, (line.end - cached) // count)
        num_rounds = int(most)
        while num_rounds >= self._fewest_rounds:
            first, last = self._pace(lines, 1), self._pace(lines, num_rounds)
            middle = self._pace(lines, (1 + num_rounds) // 2)
            if abs(middle - (first + last) / 2) <= _STRAIGHT * middle:
                half = max(0.0, last - first) / (num_rounds - 1) / 2
                self._rounds = _Rounds(num_rounds, first, half, tuple(lines))
                self.until += duration(first, half, num_rounds)
                return
            num_rounds //= 2

    def _pace(self, lines: Sequence[DecodeLine], later: int) -> float:
        """Seconds from one round to the next, so many rounds later."""
        places = self._places.copy()
        steps = [
            (one.end, places.spans(self._later(one, line, later)))
            for one, line in zip(self._begun, lines, strict=True)
        ]
        ends = [end for end, _ in steps]
        began = 0.0
        for number in range(_SETTLING_ROUNDS + _MEASURED_ROUNDS):
            if number == _SETTLING_ROUNDS:
                began = ends[0]
            for place, (_, spans) in enumerate(steps):
                ends[place] = places.take(ends[place], spans)
        return (ends[0] - began) / _MEASURED_ROUNDS

    def _later(self, begun: _Begun, line: DecodeLine, later: float) -> RoundTime:
        """The time of a step that decodes, so many rounds later."""
        cached = self._sequences.num_known(begun.decoding) + later * len(begun.decoding)
        return RoundTime(line.fixed + line.slope * cached, line.busy)

    def _land(self, now: float) -> None:
        """Of the rounds that are taken at once take those that are over, and then step by step."""
        rounds = self._rounds
        if rounds is None:
            return
        elapsed = now - self._begun[0].end
        self._take_rounds(rounds, steps_within(rounds.first, rounds.half, rounds.count, elapsed))
        self._num_alike = 0
        self.until = self._begun[0].end
        while self.until < now:
            self.advance()

    def _take_rounds(self, rounds: _Rounds, count: int) -> None:
        """All steps under way were finished and begun again so many times."""
        self._rounds = None
        if not count:
            return
        seconds = duration(rounds.first, rounds.half, count)
        part_seconds = [0.0] * len(rounds.lines[0].busy)
        for one, line in zip(self._begun, rounds.lines, strict=True):
            middle = self._later(one, line, (1 + count) / 2)
            for part, share in enumerate(middle.busy):
                part_seconds[part] += count * share * middle.seconds
        self.num_steps += count * len(self._begun)
        self._note(self._begun[0].end + seconds, part_seconds)
        for one, line in zip(self._begun, rounds.lines, strict=True):
            self._sequences.write(one.decoding, count)
            one.end += seconds
            one.time = self._later(one, line, 0)
        self._places.shift(seconds)
