"""When slow devices are looked for, and when the layers may be divided anew because of them. Pure.

`stragglers` judges windows; here are the windows, and the patience between two moves.
"""

from collections.abc import Mapping

from banyan.engine.process.stragglers import StragglerRules, Stragglers
from banyan.planner.plan import Plan

WINDOW_SECONDS = 2.0
_FIRST_REST_SECONDS = 30.0
_LONGEST_REST_SECONDS = 900.0


class PaceWatch:
    """Sees how long the devices of one engine take.

    Readers wait while a model moves, so two moves for slowness lie further and further apart.
    """

    def __init__(self, rules: StragglerRules | None = None) -> None:
        self._rules = rules or StragglerRules()
        self._plan: Plan | None = None
        self._seen = Stragglers(expected={})
        self._look_at = 0.0
        self._rest_until = 0.0
        self._rest_seconds = _FIRST_REST_SECONDS

    def is_due(self, now: float) -> bool:
        """Whether a window ends now."""
        return now >= self._look_at

    def knows(self, plan: Plan) -> bool:
        """Whether `begin` was called for this plan."""
        return plan == self._plan

    def begin(self, plan: Plan, expected: Mapping[str, float], known: Mapping[str, float]) -> None:
        """A plan is carried out from now on.

        Args:
            plan: this one.
            expected: device -> seconds of a step under it, as predicted.
            known: how many times longer those take that are known to be slow.
        """
        self._plan = plan
        slowdowns = {name: factor for name, factor in known.items() if name in expected}
        self._seen = Stragglers(expected=expected, slowdowns=slowdowns)

    def look(self, busy: Mapping[str, float], now: float) -> Mapping[str, float] | None:
        """End a window.

        Args:
            busy: seconds that each device was busy since its engine started.
            now: seconds on the monotonic clock.

        Returns:
            How many times longer each slow device of the plan takes, where that is news on which
            to act; None where it is not.
        """
        self._look_at = now + WINDOW_SECONDS
        before = self._seen.slowdowns
        seen = self._seen.observed(busy, self._rules)
        if seen.slowdowns == before:
            self._seen = seen
            return None
        if now < self._rest_until:
            # Judged again by the next window: what is true then counts.
            self._seen = Stragglers(
                expected=seen.expected, slowdowns=before, busy=seen.busy, factors=seen.factors
            )
            return None
        self._seen = seen
        self._rest_until = now + self._rest_seconds
        self._rest_seconds = min(2 * self._rest_seconds, _LONGEST_REST_SECONDS)
        return seen.slowdowns
