"""How long somebody who joins the line now will wait, from how fast it moved lately. Pure.

Times are seconds of any clock that only goes forward; the caller reads it.
"""

import math

# What happened so long ago counts half.
_HALF_LIFE_SECONDS = 10.0
# Less than this was not seen long enough to say anything.
_LEAST_SECONDS = 0.05
_LONGEST_RETRY_SECONDS = 600


class LineSpeed:
    """Prompt tokens that leave the line in a second, while somebody waits.

    It covers whatever holds the line up: the model's speed, cached prompts, seats and blocks.
    """

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

    def observe(self, num_tokens: float, seconds: float) -> None:
        """Note that `num_tokens` left the line in the last `seconds`, and that others waited."""
        fading = 0.5 ** (seconds / _HALF_LIFE_SECONDS)
        self._tokens = self._tokens * fading + num_tokens
        self._seconds = self._seconds * fading + seconds

    def seconds_for(self, num_tokens: float) -> float:
        """How long `num_tokens` take to leave the line; 0 while that is not known."""
        if self._seconds < _LEAST_SECONDS:
            return 0.0
        return num_tokens * self._seconds / max(self._tokens, 1.0)


def retry_after_seconds(wait_seconds: float, goal_seconds: float | None) -> int:
    """When to come back: whole seconds, at least 1, until the line is as short as it should be."""
    excess = wait_seconds - (goal_seconds or 0.0)
    return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(excess)))
