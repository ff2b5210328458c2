"""The sequences of a simulated engine with several steps under way: who rests, waits, computes.

The rules are those of `banyan.engine.scheduling.scheduler` for requests that are equally urgent and
share no prompts. Knows no time. Pure.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence

from banyan.planner.simulation.requests import EngineLimits, Requests
from banyan.planner.simulation.stage_costs import BLOCK_TOKENS


class Sequences:
    """Chooses who computes in the next step.

    Args:
        limits: of the engine.
        requests: of the whole simulation; it notes what becomes of its own.

    Attributes:
        free_blocks: that nobody holds.
        computed: sequence -> tokens in the cache, of those that run.
    """

    def __init__(self, limits: EngineLimits, requests: Requests) -> None:
        self.free_blocks = limits.num_blocks
        self.computed: dict[int, int] = {}
        self._limits = limits
        self._requests = requests
        self._budget = -(-limits.token_budget // limits.num_in_flight)
        # Of those that run: tokens known, and blocks held.
        self._known: dict[int, int] = {}
        self._held: dict[int, int] = {}
        # When each came, as a number: the first is the most urgent.
        self._turns: dict[int, int] = {}
        self._num_turns = 0
        self._resting: list[int] = []
        self._stood_back: list[int] = []
        self._waiting: deque[int] = deque()

    @property
    def num_running(self) -> int:
        """Sequences that run."""
        return len(self._known)

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for a place."""
        return len(self._stood_back) + len(self._waiting)

    def wait(self, request: int) -> None:
        """One more waits for its place."""
        self._turns[request] = self._num_turns
        self._num_turns += 1
        self._waiting.append(request)

    def num_known(self, sequences: Iterable[int]) -> int:
        """Tokens of some that run, together."""
        known = self._known
        return sum(known[request] for request in sequences)

    def ends(self, request: int, chunk: int) -> bool:
        """Whether so many more tokens are the last ones of its prompt."""
        return self.computed[request] + chunk == self._known[request]

    def choose(self, num_rows: int) -> tuple[list[int], list[tuple[int, int]]] | None:
        """Plan a step and take the blocks for it.

        Args:
            num_rows: sequences that get a token in steps under way.

        Returns:
            Who decodes, and who computes how many tokens of its prompt; None for nobody.
        """
        resting, known, held = self._resting, self._known, self._held
        num_under_way = len(known) - len(resting)
        growth = [-(-known[one] // BLOCK_TOKENS) - held[one] for one in resting]
        free, num_kept = self.free_blocks - sum(growth), len(resting)
        while free < 0 and num_kept > 1:
            num_kept -= 1
            free += growth[num_kept] + held[resting[num_kept]]
        if free < 0 and num_under_way:
            return None
        decoding = [one for one in resting if self._is_decoding(one)]
        share = -(-(len(decoding) + num_rows) // self._limits.num_in_flight)
        may_enter = num_kept == len(resting)
        for one in reversed(resting[num_kept:]):
            self._stand_back(one)
        if not may_enter:
            decoding = [one for one in resting if self._is_decoding(one)]
        decoding = decoding[:share]
        chunks = self._prompts(self._budget - len(decoding), free if may_enter else None)
        if not decoding and not chunks:
            return None
        self._set_out(decoding, chunks)
        return decoding, chunks

    def settle(
        self, decoding: Iterable[int], chunks: Iterable[tuple[int, int]], now: float
    ) -> list[int]:
        """What comes of a step that ends now; returns those that are finished."""
        done: list[int] = []
        for request in decoding:
            self.computed[request] += 1
            self._give(request, now, done)
        for request, chunk in chunks:
            is_whole = self.ends(request, chunk)
            self.computed[request] += chunk
            if is_whole:
                self._give(request, now, done)
            else:
                self._rest(request)
        return done

    def most_rounds(self, groups: Iterable[Iterable[int]]) -> int:
        """How often each of these can get a token with nobody coming, ending or giving way.

        0 while somebody rests, or may find a place.
        """
        if self._resting or (self.num_waiting and self._has_place(self.free_blocks)):
            return 0
        requests = self._requests
        all_ = [request for group in groups for request in group]
        most = min(requests.answer[one] - requests.written[one] for one in all_) - 1
        if self._needed(all_, most) <= self.free_blocks:
            return most
        # Blocks for the rounds grow with them: halve until they are found.
        fewest = 0
        while most - fewest > 1:
            middle = (fewest + most) // 2
            if self._needed(all_, middle) <= self.free_blocks:
                fewest = middle
            else:
                most = middle
        return fewest

    def write(self, sequences: Iterable[int], count: int) -> None:
        """Each of them, under way, got so many tokens and is under way again."""
        for request in sequences:
            self.computed[request] += count
            self._known[request] += count
            self._requests.written[request] += count
            self._grow(request)

    def lose_all(self) -> list[int]:
        """Nobody runs or waits any longer; returns who did."""
        running = sorted(self._known, key=self._turns.__getitem__)
        lost = [*running, *self._stood_back, *self._waiting]
        for request in lost:
            self._requests.cached[request] = 0
        self.free_blocks = self._limits.num_blocks
        for table in (self.computed, self._known, self._held, self._turns):
            table.clear()
        self._resting, self._stood_back = [], []
        self._waiting.clear()
        return lost

    def _is_decoding(self, request: int) -> bool:
        computed = self.computed[request]
        return computed > 0 and self._known[request] - computed == 1

    def _prompts(self, budget: int, free: int | None) -> list[tuple[int, int]]:
        """Chunks of prompts that run, then of those that find a place; None lets nobody in."""
        chunks = []
        for request in self._resting:
            if budget and not self._is_decoding(request):
                chunk = min(budget, self._known[request] - self.computed[request])
                chunks.append((request, chunk))
                budget -= chunk
        while free is not None and budget and self.num_waiting and self._has_place(free):
            request = self._enter()
            free -= self._held[request]
            chunk = min(budget, self._known[request] - self.computed[request])
            chunks.append((request, chunk))
            budget -= chunk
        return chunks

    def _has_place(self, free: int) -> bool:
        """For the first who waits, beside all that run."""
        first = (self._stood_back or self._waiting)[0]
        known = self._requests.prompt[first] + self._requests.written[first]
        num_running = len(self._known)
        left = free + -known // BLOCK_TOKENS
        return num_running < self._limits.max_running and left >= num_running

    def _enter(self) -> int:
        """Give the first who waits its place."""
        request = self._stood_back.pop(0) if self._stood_back else self._waiting.popleft()
        requests = self._requests
        self._known[request] = requests.prompt[request] + requests.written[request]
        self.computed[request] = requests.cached[request]
        self._held[request] = 0
        self._grow(request)
        self._rest(request)
        return request

    def _stand_back(self, request: int) -> None:
        """Give all blocks back and wait again, before all that never ran."""
        self._resting.remove(request)
        self._leave(request)
        self._requests.preempted[request] += 1
        self._requests.cached[request] = 0
        insort(self._stood_back, request, key=self._turns.__getitem__)

    def _set_out(self, decoding: Sequence[int], chunks: Sequence[tuple[int, int]]) -> None:
        for request in decoding:
            self._grow(request)
        gone = {*decoding, *(request for request, _ in chunks)}
        self._resting = [one for one in self._resting if one not in gone]

    def _grow(self, request: int) -> None:
        needed = -(-self._known[request] // BLOCK_TOKENS) - self._held[request]
        if needed:
            self._held[request] += needed
            self.free_blocks -= needed

    def _give(self, request: int, now: float, done: list[int]) -> None:
        """One more token of the answer."""
        requests = self._requests
        written = requests.written[request] + 1
        requests.written[request] = written
        if written == 1:
            requests.first_token[request] = now
        if written == requests.answer[request]:
            requests.finished[request] = now
            self._leave(request)
            del self._turns[request]
            done.append(request)
            return
        self._known[request] += 1
        self._rest(request)

    def _rest(self, request: int) -> None:
        insort(self._resting, request, key=self._turns.__getitem__)

    def _leave(self, request: int) -> None:
        self.free_blocks += self._held.pop(request)
        del self._known[request], self.computed[request]

    def _needed(self, sequences: Iterable[int], count: int) -> int:
        """Blocks that so many more tokens of each of them take."""
        known, held = self._known, self._held
        return sum(-(-(known[one] + count) // BLOCK_TOKENS) - held[one] for one in sequences)
