"""How many tokens the steps of an engine had, counted by size as a histogram needs it."""

from bisect import bisect_left

SIZES = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
"""Upper bounds of the sizes that are told apart; vLLM's."""


class StepSizes:
    """Counts steps by their number of tokens.

    Attributes:
        num_tokens: of all steps together.
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(SIZES) + 1)
        self.num_tokens = 0

    def note(self, num_tokens: int) -> None:
        """Count one step."""
        self._counts[bisect_left(SIZES, num_tokens)] += 1
        self.num_tokens += num_tokens

    def counts(self) -> tuple[int, ...]:
        """How many steps had at most so many tokens as the bound of `SIZES`, but more than the one
        before; the last count is of those above all bounds."""
        return tuple(self._counts)
