"""One replica's engine with one step at a time, on a simulated clock.

By the rules of `banyan.engine.scheduling.scheduler`:
decoding first, then prompts in chunks up to the token budget, first come first served; a sequence
is admitted when its tokens find blocks and each that runs could still take one more; when blocks
run out the last one gives its own back and starts anew. A test runs the real scheduler beside it.

While nobody comes, ends or runs out of blocks, nothing but the context changes from step to step:
these steps are taken at once. So the work grows with requests, not with tokens. Pure.
"""

import math
from collections import deque
from heapq import heappop, heappush

from banyan.planner.simulation.alike_steps import duration, steps_within
from banyan.planner.simulation.busy import BusyMeter
from banyan.planner.simulation.requests import EngineLimits, Requests
from banyan.planner.simulation.stage_costs import BLOCK_TOKENS
from banyan.planner.simulation.step_times import StepTimes

_PHASE = BLOCK_TOKENS - 1
NEVER = math.inf


class SimulatedEngine:
    """Runs requests; whoever owns it calls `advance` when `until` has come.

    Args:
        limits: of the engine.
        times: of its steps; may be replaced by `change_times`.
        requests: of the whole simulation; it notes what becomes of its own.
        bin_seconds: of the spans for which it counts how long it was busy.

    Attributes:
        until: when the steps under way end; infinite while there is nothing to do.
        meter: how busy it was.
        free_blocks: that nobody holds.
        num_steps: taken so far.
    """

    __slots__ = (
        "_chunks",
        "_computed",
        "_decoding",
        "_ends",
        "_first",
        "_growing",
        "_half",
        "_known",
        "_line_busy",
        "_now",
        "_num_steps",
        "_phases",
        "_requests",
        "_sum_base",
        "_times",
        "_waiting",
        "free_blocks",
        "limits",
        "meter",
        "num_steps",
        "until",
    )

    def __init__(
        self,
        limits: EngineLimits,
        times: StepTimes,
        requests: Requests,
        *,
        bin_seconds: float = 60.0,
    ) -> None:
        self.limits = limits
        self.until = NEVER
        self.free_blocks = limits.num_blocks
        self.num_steps = 0
        self.meter = BusyMeter(bin_seconds)
        self._times = times
        self._requests = requests
        self._now = 0.0
        self._waiting: deque[int] = deque()
        # Request -> known tokens less the number of the step, which is constant while it decodes.
        self._decoding: dict[int, int] = {}
        self._sum_base = 0
        # How many take a new block in the steps of each remainder by 16.
        self._phases = [0] * BLOCK_TOKENS
        self._ends: list[tuple[int, int]] = []
        # Prompts under way: request -> tokens computed; all its known tokens.
        self._computed: dict[int, int] = {}
        self._known: dict[int, int] = {}
        self._chunks: list[tuple[int, int]] = []
        self._num_steps = 0
        self._first = self._half = 0.0
        self._line_busy: tuple[float, ...] = ()

    @property
    def num_running(self) -> int:
        """Sequences that run."""
        return len(self._decoding) + len(self._computed)

    def arrive(self, request: int, now: float) -> None:
        """Take a request that fits into the cache alone."""
        self._waiting.append(request)
        if self.until == NEVER:
            # It begins when all that come at this moment are here.
            self._now = self.until = now
            self._num_steps = 0
        elif len(self._waiting) == 1:
            self._shorten(now)

    def advance(self) -> list[int]:
        """End the steps under way and begin the next; returns the requests that are finished."""
        now = self.until
        self.meter.note(self._now, now, self._line_busy)
        self._now = now
        self.num_steps += self._num_steps
        done = self._settle(now) if self._chunks else []
        last = self.num_steps - 1
        ends = self._ends
        while ends and ends[0][0] <= last:
            end, request = heappop(ends)
            base = self._decoding.get(request)
            if base is not None and self._last_step(request, base) == end:
                self._leave(request, base, end)
                self._requests.finished[request] = now
                done.append(request)
        self._plan()
        return done

    def change_times(self, times: StepTimes, now: float) -> None:
        """From the next step on it is faster or slower."""
        self._times = times
        self._shorten(now)

    def abort(self, now: float) -> list[int]:
        """Lose everything that runs or waits; returns those requests, with the tokens they have."""
        if self.until < NEVER:
            if not self._chunks:
                self.num_steps += self._steps_within(now)
            self.meter.note(self._now, now, self._line_busy)
        requests = self._requests
        for request, base in self._decoding.items():
            requests.written[request] = base + self.num_steps - requests.prompt[request]
        lost = [*self._decoding, *self._computed, *self._waiting]
        for request in lost:
            requests.cached[request] = 0
        self.until = NEVER
        self.free_blocks = self.limits.num_blocks
        self._decoding, self._computed, self._known = {}, {}, {}
        self._waiting.clear()
        self._ends, self._chunks = [], []
        self._sum_base, self._phases = 0, [0] * BLOCK_TOKENS
        return lost

    def _plan(self) -> None:
        """Begin the next step, or as many as are alike."""
        growing = self._phases[-self.num_steps & _PHASE]
        self._growing = growing
        if growing > self.free_blocks or self._computed or (self._waiting and self._may_admit()):
            self._plan_prompts()
        elif self._decoding:
            self._plan_decoding()
        else:
            self.until = NEVER

    def _may_admit(self) -> bool:
        request = self._waiting[0]
        known = self._requests.prompt[request] + self._requests.written[request]
        num_running = len(self._decoding) + len(self._computed)
        left = self.free_blocks - self._growing + -known // BLOCK_TOKENS
        limits = self.limits
        return (
            num_running < limits.max_running
            and left >= num_running
            and len(self._decoding) < limits.token_budget
        )

    def _plan_decoding(self) -> None:
        count, step = len(self._decoding), self.num_steps
        cached = self._sum_base + count * step
        line = self._times.decode(count, cached)
        most = min(self._first_end(), step - (cached - line.end) // count)
        num_steps = int(most) - step
        # Whole turns of 16 steps give every sequence a block.
        if count * (num_steps // BLOCK_TOKENS + 1) > self.free_blocks:
            num_steps = self._steps_with_blocks(num_steps)
        self._num_steps = max(1, num_steps)
        self._first = line.fixed + line.slope * cached
        self._half = line.slope * count / 2
        self._line_busy = line.busy
        self._take_blocks(self._num_steps)
        self.until = self._now + duration(self._first, self._half, self._num_steps)

    def _first_end(self) -> int:
        """The step behind the one with which the first sequence ends."""
        ends = self._ends
        while True:
            end, request = ends[0]
            base = self._decoding.get(request)
            if base is not None and self._last_step(request, base) == end:
                return end + 1
            heappop(ends)

    def _steps_with_blocks(self, most: int) -> int:
        """How many steps find blocks; at least the next one does."""
        turns = max(0, self.free_blocks // len(self._decoding))
        free = self.free_blocks - turns * len(self._decoding)
        steps = turns * BLOCK_TOKENS
        while steps < most:
            free -= self._phases[-(self.num_steps + steps) & _PHASE]
            if free < 0:
                break
            steps += 1
        return min(steps, most)

    def _take_blocks(self, num_steps: int) -> None:
        turns, rest = divmod(num_steps, BLOCK_TOKENS)
        taken = turns * len(self._decoding)
        for number in range(rest):
            taken += self._phases[-(self.num_steps + number) & _PHASE]
        self.free_blocks -= taken

    def _steps_within(self, now: float) -> int:
        """Steps under way that have ended by `now`."""
        if not self._num_steps:
            return 0
        return steps_within(self._first, self._half, self._num_steps, now - self._now)

    def _shorten(self, now: float) -> None:
        """End after the step that is under way at `now`, so that others may join."""
        if self._chunks or self._num_steps <= 1 or self.until == NEVER:
            return
        steps = self._steps_within(now)
        if self._now + duration(self._first, self._half, steps) < now or steps == 0:
            steps += 1
        if steps < self._num_steps:
            self._take_blocks_back(steps)
            self._num_steps = steps
            self.until = self._now + duration(self._first, self._half, steps)

    def _take_blocks_back(self, num_steps: int) -> None:
        """Only `num_steps` of the steps under way will be taken."""
        self._take_blocks(num_steps)
        taken_for_all = self._num_steps
        turns, rest = divmod(taken_for_all, BLOCK_TOKENS)
        self.free_blocks += turns * len(self._decoding)
        for number in range(rest):
            self.free_blocks += self._phases[-(self.num_steps + number) & _PHASE]

    def _last_step(self, request: int, base: int) -> int:
        """The step with which the last token of a sequence comes."""
        return self._requests.prompt[request] + self._requests.answer[request] - 1 - base

    def _leave(self, request: int, base: int, step: int) -> None:
        """A sequence that decoded in `step` gives its blocks back."""
        del self._decoding[request]
        self._sum_base -= base
        self._phases[(base - 1) & _PHASE] -= 1
        self.free_blocks -= -(base + step) // BLOCK_TOKENS

    def _plan_prompts(self) -> None:
        """One step with chunks of prompts."""
        may_admit = not self._make_room()
        self.free_blocks -= self._growing
        count, step, limits = len(self._decoding), self.num_steps, self.limits
        cached = self._sum_base + count * step
        pairs, num_tokens, num_rows = cached, count, count
        budget = limits.token_budget - count
        chunks: list[tuple[int, int]] = []
        computed, known = self._computed, self._known
        # A prompt with one token left counts as decoding.
        almost = {r for r, have in computed.items() if have and known[r] - have == 1}
        budget -= len(almost)
        for request, have in computed.items():
            chunk = 1 if request in almost else min(budget, known[request] - have)
            if chunk:
                budget -= 0 if request in almost else chunk
                chunks.append((request, chunk))
        while may_admit and budget > 0 and self._waiting:
            if not self._admit():
                break
            request = next(reversed(computed))
            chunk = min(budget, known[request] - computed[request])
            budget -= chunk
            chunks.append((request, chunk))
        for request, chunk in chunks:
            start = computed[request]
            num_tokens += chunk
            num_rows += start + chunk == known[request]
            cached += start + chunk
            pairs += chunk * start + chunk * (chunk + 1) // 2
        self._begin(chunks, num_tokens, num_rows, cached, pairs)

    def _begin(
        self,
        chunks: list[tuple[int, int]],
        num_tokens: int,
        num_rows: int,
        cached: int,
        pairs: int,
    ) -> None:
        self._num_steps = 1
        self._chunks = chunks
        found = self._times.step(num_tokens, num_rows, cached, pairs)
        self._line_busy = found.busy
        self._first, self._half = found.seconds, 0.0
        self.until = self._now + found.seconds

    def _admit(self) -> bool:
        """Start the first who waits; False when there is no place."""
        request = self._waiting[0]
        requests = self._requests
        known = requests.prompt[request] + requests.written[request]
        num_running = self.num_running
        left = self.free_blocks + -known // BLOCK_TOKENS
        if num_running >= self.limits.max_running or left < num_running:
            return False
        self._waiting.popleft()
        self.free_blocks = left
        self._computed[request] = requests.cached[request]
        self._known[request] = known
        return True

    def _make_room(self) -> bool:
        """Let the last of the running give way while blocks are short; True when one had to."""
        gave_way = False
        step = self.num_steps
        requests = self._requests
        while self._growing > self.free_blocks and self.num_running > 1:
            gave_way = True
            if self._computed:
                request, _ = self._computed.popitem()
                self.free_blocks -= -self._known.pop(request) // BLOCK_TOKENS
            else:
                request = next(reversed(self._decoding))
                base = self._decoding[request]
                # What it held before this step, in which it would have grown.
                self._leave(request, base, step - 1)
                self._growing -= (base - 1 + step) & _PHASE == 0
                requests.written[request] = base + step - requests.prompt[request]
            requests.preempted[request] += 1
            requests.cached[request] = 0
            self._waiting.appendleft(request)
        return gave_way

    def _settle(self, now: float) -> list[int]:
        """Note what the chunks of the last step came to; returns requests that are finished."""
        requests, done = self._requests, []
        for request, chunk in self._chunks:
            have = self._computed[request] + chunk
            known = self._known[request]
            if have < known:
                self._computed[request] = have
                continue
            del self._computed[request], self._known[request]
            written = requests.written[request] + 1
            requests.written[request] = written
            if written == 1:
                requests.first_token[request] = now
            if written == requests.answer[request]:
                self.free_blocks -= -known // BLOCK_TOKENS
                requests.finished[request] = now
                done.append(request)
                continue
            base = known + 1 - self.num_steps
            self._decoding[request] = base
            self._sum_base += base
            self._phases[(base - 1) & _PHASE] += 1
            heappush(self._ends, (self._last_step(request, base), request))
        self._chunks = []
        return done
