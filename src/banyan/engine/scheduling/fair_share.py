"""How much each caller was served, so that the one who got least comes next. Pure arithmetic.

The virtual token counters of Sheng et al., "Fairness in Serving Large Language Models" (OSDI
2024): a caller's counter grows by the tokens computed and written for it; a caller who was idle
starts level with the least served of the others, so that nobody saves up a claim. Two callers who
always have requests waiting then never drift apart by more than a step's work.
"""

import heapq

# What a written token costs beside a prompt token, as in the paper: it takes a step of its own.
PROMPT_TOKEN_SERVICE = 1.0
WRITTEN_TOKEN_SERVICE = 2.0

_LEAST_CALLERS_TO_SWEEP = 64

# Idle callers are only remembered while they are ahead; a flood of names must not grow for ever.
_MOST_IDLE_CALLERS = 4096


class FairShare:
    """Service counters by caller; a caller is active while it has unfinished answers."""

    def __init__(self) -> None:
        self._service: dict[str, float] = {}
        self._num_active: dict[str, int] = {}
        # Active callers, the least served first. Service only grows: what is out of date is mended
        # when it comes up, so that a crowd of callers costs nothing while one of them is served.
        self._least_served: list[tuple[float, str]] = []
        self._sweep_from = _LEAST_CALLERS_TO_SWEEP

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
            least = self._least()
            service = before if least is None else max(before, least)
            self._service[caller] = service
            heapq.heappush(self._least_served, (service, caller))
            if len(self._least_served) > 2 * len(self._num_active) + _LEAST_CALLERS_TO_SWEEP:
                self._order_active()
        self._num_active[caller] = self._num_active.get(caller, 0) + 1

    def leave(self, caller: str) -> None:
        """Note the end of an answer that had arrived."""
        self._num_active[caller] -= 1
        if self._num_active[caller] == 0:
            del self._num_active[caller]
            if not self._num_active:
                self._service.clear()
                self._least_served.clear()
            elif len(self._service) >= self._sweep_from:
                self._forget_idle()
                num_kept = len(self._service)
                self._sweep_from = num_kept + max(_LEAST_CALLERS_TO_SWEEP, num_kept // 8)

    def charge(self, caller: str, *, num_prompt: int = 0, num_written: int = 0) -> None:
        """Count tokens computed and written for an active caller."""
        self._service[caller] += (
            num_prompt * PROMPT_TOKEN_SERVICE + num_written * WRITTEN_TOKEN_SERVICE
        )

    def _least(self) -> float | None:
        """What the least served active caller was served; None when nobody is active."""
        heap = self._least_served
        while heap:
            service, caller = heap[0]
            if caller not in self._num_active:
                heapq.heappop(heap)
            elif self._service[caller] != service:
                heapq.heapreplace(heap, (self._service[caller], caller))
            else:
                return service
        return None

    def _order_active(self) -> None:
        self._least_served = [(self._service[caller], caller) for caller in self._num_active]
        heapq.heapify(self._least_served)

    def _forget_idle(self) -> None:
        """Drop idle callers that would start level with the others anyway."""
        self._order_active()
        least = self._least_served[0][0]
        idle = [c for c in self._service if c not in self._num_active]
        # Beyond the limit those who are least ahead gain the little they are ahead.
        idle.sort(key=self._service.__getitem__)
        num_too_many = len(idle) - _MOST_IDLE_CALLERS
        for place, caller in enumerate(idle):
            if place < num_too_many or self._service[caller] <= least:
                del self._service[caller]
