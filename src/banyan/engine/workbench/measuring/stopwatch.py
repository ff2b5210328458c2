"""How long a program takes: medians of several runs, within a limit of time for each number."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Attributes:
    seconds: for one number; a run that takes longer still counts, once.
    rounds: at most so many runs.
    clock: seconds that never go back.
    """

    seconds: float
    rounds: int
    clock: Callable[[], float] = time.perf_counter

    def median(self, run: Callable[[int], object]) -> float:
        """Seconds of one run; `run` is given 0, 1, 2, ... so that it can change its operands.

        The first run touches memory and is thrown away where there is time for another.
        """
        taken = [self._timed(run, 0)]
        budget = self.seconds - taken[0]
        for number in range(1, self.rounds + 1):
            if budget <= 0.0:
                break
            taken.append(self._timed(run, number))
            budget -= taken[-1]
        return statistics.median(taken[1:] or taken)

    def grows_too_long(self, measured: Sequence[tuple[float, float]], size: float) -> bool:
        """Would a run of this size take several times the limit, as (size, seconds) say?

        Time is taken to grow as the size does, from the largest one measured.
        """
        if not measured:
            return False
        largest, seconds = max(measured)
        return seconds * max(1.0, size / largest) > 4.0 * self.seconds

    def _timed(self, run: Callable[[int], object], number: int) -> float:
        began = self.clock()
        run(number)
        return self.clock() - began
