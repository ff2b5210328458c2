"""Which devices of a plan take longer than they should, by what they were busy with. Pure.

A device is judged against its prediction and against the others: a busy machine, or other work than
was planned for, makes all of them slower alike and nobody a straggler.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class StragglerRules:
    """When a device is slow.

    Attributes:
        slow: so many times its share of the work, and it is slow; below that nothing moves.
        well: a slow device whose factor falls to this is well again. Between the two nothing
            changes.
        changed: a slow device is judged anew when its factor changes by this.
        windows: so many in a row have to agree.
        busy_seconds: a window in which all devices together worked less says nothing.
    """

    slow: float = 1.5
    well: float = 1.2
    changed: float = 1.4
    windows: int = 3
    busy_seconds: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stragglers:
    """What was seen under one plan.

    Attributes:
        expected: device -> seconds of a step, as predicted.
        slowdowns: how many times longer those take that are slow.
        busy: seconds that each device was busy, when the last window ended.
        factors: of the last windows, oldest first.
    """

    expected: Mapping[str, float]
    slowdowns: Mapping[str, float] = field(default_factory=dict)
    busy: Mapping[str, float] = field(default_factory=dict)
    factors: tuple[Mapping[str, float], ...] = ()

    def observed(self, busy: Mapping[str, float], rules: StragglerRules) -> "Stragglers":
        """A window ended.

        Args:
            busy: seconds that each device was busy since its engine started.
            rules: when one is slow.
        """
        if not self.expected.keys() <= busy.keys():
            return self
        if any(busy[name] < self.busy.get(name, 0.0) for name in self.expected):
            # Another engine: it counts from its own start.
            return replace(self, busy=dict(busy), factors=())
        worked = {name: busy[name] - self.busy.get(name, 0.0) for name in self.expected}
        if sum(worked.values()) < rules.busy_seconds:
            return self
        if not self.busy:
            return replace(self, busy=dict(busy))
        factors = (*self.factors, factors_of(worked, self.expected))[-rules.windows :]
        seen = replace(self, busy=dict(busy), factors=factors)
        return (
            seen if len(factors) < rules.windows else replace(seen, slowdowns=seen._judged(rules))
        )

    def _judged(self, rules: StragglerRules) -> dict[str, float]:
        found = {}
        for name in self.expected:
            seen = [window[name] for window in self.factors]
            before = self.slowdowns.get(name, 1.0)
            now = before
            if min(seen) >= rules.slow and (
                before == 1.0 or not 1 / rules.changed < median(seen) / before < rules.changed
            ):
                now = median(seen)
            elif max(seen) <= rules.well:
                now = 1.0
            if now != 1.0:
                found[name] = now
        return found


def factors_of(worked: Mapping[str, float], expected: Mapping[str, float]) -> dict[str, float]:
    """How many times longer each device took than the others, by their predictions.

    The measure is the lower median: of two devices the faster one, of many one in the middle.
    """
    ratios = {name: worked[name] / expected[name] for name in expected}
    measure = sorted(ratios.values())[(len(ratios) - 1) // 2]
    if measure <= 0.0:
        return dict.fromkeys(ratios, 1.0)
    return {name: ratio / measure for name, ratio in ratios.items()}
