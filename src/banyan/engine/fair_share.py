"""How much each caller was served, so that the one who got least comes next. Pure arithmetic.

The virtual token counters of Sheng et al., "Fairness in Serving Large Language Models" (OSDI
2024): a caller's counter grows by the tokens computed and written for it; a caller who was idle
starts level with the least served of the others, so that nobody saves up a claim. Two callers who
always have requests waiting then never drift apart by more than a step's work.
"""

# What a written token costs beside a prompt token, as in the paper: it takes a step of its own.
PROMPT_TOKEN_SERVICE = 1.0
WRITTEN_TOKEN_SERVICE = 2.0

# Idle callers are only remembered while they are ahead; a flood of names must not grow for ever.
_MOST_IDLE_CALLERS = 4096


class FairShare:
    """Service counters by caller; a caller is active while it has unfinished answers."""

    def __init__(self) -> None:
        self._service: dict[str, float] = {}
        self._num_active: dict[str, int] = {}

    @property
    def num_active(self) -> int:
        """Callers with unfinished answers."""
        return len(self._num_active)

    def is_active(self, caller: str) -> bool:
        """Whether a caller has unfinished answers."""
        return caller in self._num_active

    def service(self, caller: str) -> float:
        """What an active caller was served, in prompt tokens."""
        return self._service[caller]

    def arrive(self, caller: str) -> None:
        """Note an answer that will want service."""
        if caller not in self._num_active:
            before = self._service.get(caller, 0.0)
            least = min((self._service[other] for other in self._num_active), default=before)
            self._service[caller] = max(before, least)
        self._num_active[caller] = self._num_active.get(caller, 0) + 1

    def leave(self, caller: str) -> None:
        """Note the end of an answer that had arrived."""
        self._num_active[caller] -= 1
        if self._num_active[caller] == 0:
            del self._num_active[caller]
            self._forget_idle()

    def charge(self, caller: str, *, num_prompt: int = 0, num_written: int = 0) -> None:
        """Count tokens computed and written for an active caller."""
        self._service[caller] += (
            num_prompt * PROMPT_TOKEN_SERVICE + num_written * WRITTEN_TOKEN_SERVICE
        )

    def _forget_idle(self) -> None:
        """Drop idle callers that would start level with the others anyway."""
        if not self._num_active:
            self._service.clear()
            return
        least = min(self._service[caller] for caller in self._num_active)
        idle = [c for c in self._service if c not in self._num_active]
        # Beyond the limit those who are least ahead gain the little they are ahead.
        idle.sort(key=self._service.__getitem__)
        num_too_many = len(idle) - _MOST_IDLE_CALLERS
        for place, caller in enumerate(idle):
            if place < num_too_many or self._service[caller] <= least:
                del self._service[caller]
