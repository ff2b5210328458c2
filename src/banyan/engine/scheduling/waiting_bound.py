"""How much may wait for a model that answers as a whole, and when to come back.

Used by the queues of pooling and of speech and for images; text that is written has `reception`.
"""

from banyan.engine.scheduling.expected_wait import LineSpeed, retry_after_seconds
from banyan.foundation.errors import Overloaded


class WaitingBound:
    """Turns away what finds too much before it; whatever finds nothing waiting is let in.

    Args:
        max_requests: most requests that wait; None sets no limit.
        max_size: most that they take together.
        what: what a size counts, for the sentence, such as "tokens".
    """

    def __init__(self, *, max_requests: int | None, max_size: float, what: str) -> None:
        self._max_requests = max_requests
        self._max_size = max_size
        self._what = what
        self._speed = LineSpeed()

    def check(self, num_waiting: int, size_waiting: float, *, size: float) -> None:
        """Let a request of this size wait behind the others.

        Raises:
            Overloaded: there is no room; says when to come back.
        """
        is_many = self._max_requests is not None and num_waiting >= self._max_requests
        if not num_waiting or not (is_many or size_waiting + size > self._max_size):
            return
        raise Overloaded(
            f"the queue is full: {num_waiting} requests of {size_waiting:.0f} {self._what} wait "
            f"already, and at most {self._max_requests or 'any number'} of {self._max_size:.0f} "
            "may; try again later",
            retry_after_seconds=retry_after_seconds(self._speed.seconds_for(size_waiting), None),
        )

    def note_step(self, size: float, seconds: float) -> None:
        """Learn how much is done in which time."""
        self._speed.observe(size, seconds)
