"""How many requests one caller may have under way, so that nobody fills the engine alone."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from banyan.foundation.errors import Overloaded


class CallerLimit:
    """Counts the requests of each caller; a limit of 0 lets everybody have any number."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()

    @contextmanager
    def counted(self, caller: str) -> Iterator[None]:
        """Count one request while the block runs.

        Raises:
            Overloaded: the caller has as many as it may.
        """
        if self._most and self._counts[caller] >= self._most:
            who = f"the caller {caller!r}" if caller else "this caller"
            raise Overloaded(
                f"{who} has {self._counts[caller]} requests under way, the most that one caller "
                "may have; send this one again when another is done",
                retry_after_seconds=1.0,
                is_callers_share=True,
            )
        self._counts[caller] += 1
        try:
            yield
        finally:
            self._counts[caller] -= 1
            if not self._counts[caller]:
                del self._counts[caller]
