"""When answers may begin, so that the tokens in the KV cache stay even. No clock, no block.

Devices that only hold the cache and attend to it need time in proportion to the tokens in it.
Answers that begin together also end together, and those devices are idle first and late afterwards.
So answers begin in small groups spread over the length of an answer, after FastDecode (He and Zhai,
arXiv 2403.11421): with B seats, answers of S tokens and a group every F steps the most that is ever
cached is B (S + F) / 2 tokens instead of B S. Called by `engine.steps`.
"""

from collections.abc import Collection, Iterable
from fractions import Fraction

from banyan.engine.cache.key_value_blocks import BLOCK_SIZE
from banyan.engine.options import EngineLimits
from banyan.engine.requests.request import Sequence as Answer
from banyan.planner.load_control import LoadControl, MicroBatch

# How much of what is believed of the length of an answer one more answer changes.
_LEARNS = 0.1


class SteadyLoad:
    """Holds back those who wait.

    Nobody is held back who began before or is more urgent than one who runs, nor anybody while
    there are seats for all. Nobody overtakes.

    Args:
        limits: of the engine; the blocks of its cache bound the tokens.
        num_parts: groups that begin while one answer is written (S / F), 1 or more.
    """

    def __init__(self, limits: EngineLimits, *, num_parts: int) -> None:
        self._num_seats = limits.max_num_seqs
        self._most_tokens = limits.num_blocks * BLOCK_SIZE
        self._num_parts = num_parts
        self._group = -(-limits.max_num_seqs // num_parts)
        # In each every sequence gets one token; counted exactly: a group every S / F of them.
        self._num_rounds = Fraction(0)
        # Answers that began since the last group was whole.
        self._num_begun = 0
        self._length: float | None = None

    def num_admissible(
        self, waiting: Iterable[Answer], running: Collection[Answer], *, num_waiting: int
    ) -> int:
        """How many of those who wait may begin now, in their order.

        Args:
            waiting: the next one first; read only as far as somebody may begin.
            running: those that run.
            num_waiting: how many wait.
        """
        most_new = self._most_new(waiting, running, num_waiting)
        least_urgent = max((answer.priority for answer in running), default=0)
        control: LoadControl | None = None
        found = 0
        for answer in waiting:
            if running and answer.priority < least_urgent:
                # It could take a place there; whoever is as urgent as all of them waits.
                found += 1
                most_new = max(0, most_new - 1)
                continue
            if answer.num_generated == 0:
                if most_new == 0:
                    break
                most_new -= 1
            if control is None:
                batches = map(self._expected, running)
                control = LoadControl(self._most_tokens).with_running(batches, 0)
            batch = self._expected(answer)
            if control.flights and control.earliest_start(batch, 0) > 0:
                break
            control = control.start(batch, 0)
            found += 1
        return found

    def note_begun(self, num_new: int) -> None:
        """So many answers begin that never did before."""
        self._num_begun += num_new

    def note_step(self, num_in_flight: int) -> None:
        """A step is over, one of so many in which each sequence gets one token."""
        self._num_rounds += Fraction(1, num_in_flight)

    def note_answer(self, num_tokens: int) -> None:
        """An answer of so many tokens is whole."""
        known = self._length
        self._length = num_tokens if known is None else known + _LEARNS * (num_tokens - known)

    def _most_new(
        self, waiting: Iterable[Answer], running: Collection[Answer], num_waiting: int
    ) -> int:
        """How many may begin that never did before, whatever they need."""
        if num_waiting + len(running) <= self._num_seats:
            return num_waiting
        first = next(iter(waiting), None)
        if first is None:
            return 0
        length = self._expected(first).answer_tokens
        if not running or self._num_rounds * self._num_parts >= length:
            self._num_rounds, self._num_begun = Fraction(0), 0
        return max(0, self._group - self._num_begun)

    def _expected(self, answer: Answer) -> MicroBatch:
        """What a sequence has in the cache, and how much is likely to come."""
        generated, most = answer.num_generated, answer.request.max_tokens
        whole = most if self._length is None else min(most, round(self._length))
        return MicroBatch(1, max(whole - generated, 1), len(answer.token_ids))
