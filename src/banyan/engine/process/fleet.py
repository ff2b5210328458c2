"""How the devices of a plan are, as far as it is known. Pure.

A device is lost when it cannot be reached or opened, or fails again and again; it is looked for
later and later, and is back when it answers. One that a person drains stays out until a person
says otherwise. `device_care` asks this what to plan for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from banyan.planner.serving.replanning import FleetCondition

DeviceState = Literal["ready", "lost", "drained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPatience:
    """When a device counts as lost, and when it is looked for.

    Attributes:
        most_failures: so many within `failing_seconds` make a device lost that can be reached.
        failing_seconds: see there.
        first_look_seconds: after a loss; twice as long after each look in vain, and after each
            further loss.
        longest_look_seconds: the doubling ends here.
        steady_seconds: a device that was well for so long starts from the first look again.
    """

    most_failures: int = 4
    failing_seconds: float = 10.0
    first_look_seconds: float = 1.0
    longest_look_seconds: float = 60.0
    steady_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Loss:
    """A device that cannot be used.

    Attributes:
        reason: one sentence.
        look_at: when it is looked for, on the monotonic clock.
        wait_seconds: how long before that nobody looked.
    """

    reason: str
    look_at: float
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Return:
    """A device that came back.

    Attributes:
        at: when, on the monotonic clock.
        wait_seconds: how long it was waited for last.
    """

    at: float
    wait_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What is known of all devices of an inventory.

    Attributes:
        names: of all.
        losses: of those that cannot be used.
        drained: those that a person keeps out.
        slowdowns: how many times longer than predicted those take that are slow.
        failures: when each failed lately.
        returns: of those that were lost before.
    """

    names: tuple[str, ...]
    losses: Mapping[str, Loss] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()
    slowdowns: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    returns: Mapping[str, Return] = field(default_factory=dict)

    @property
    def condition(self) -> FleetCondition:
        """What to plan for."""
        missing = frozenset(self.losses) | self.drained
        slow = {name: f for name, f in self.slowdowns.items() if name not in missing}
        return FleetCondition(missing=missing, slowdowns=slow)

    def state(self, name: str) -> DeviceState:
        """How one is."""
        if name in self.drained:
            return "drained"
        return "lost" if name in self.losses else "ready"

    def failed(
        self, name: str, reason: str, now: float, patience: FleetPatience, *, is_gone: bool
    ) -> "Fleet":
        """A device failed; `is_gone`: it cannot be reached or opened either."""
        recent = tuple(
            at for at in self.failures.get(name, ()) if now - at < patience.failing_seconds
        )
        failures = (*recent, now)
        changed = replace(self, failures={**self.failures, name: failures})
        if not is_gone and len(failures) < patience.most_failures:
            return changed
        before = self.returns.get(name)
        wait = patience.first_look_seconds
        if before is not None and now - before.at < patience.steady_seconds:
            wait = min(2 * before.wait_seconds, patience.longest_look_seconds)
        loss = Loss(reason, now + wait, wait)
        return replace(changed, losses={**self.losses, name: loss})

    def to_look_for(self, now: float) -> tuple[str, ...]:
        """Which lost devices it is time to look for."""
        return tuple(name for name, loss in self.losses.items() if loss.look_at <= now)

    def found(self, name: str, now: float) -> "Fleet":
        """A lost device answers again."""
        losses = dict(self.losses)
        loss = losses.pop(name)
        back = Return(now, loss.wait_seconds)
        failures = {other: times for other, times in self.failures.items() if other != name}
        return replace(self, losses=losses, failures=failures, returns={**self.returns, name: back})

    def not_found(self, name: str, reason: str, now: float, patience: FleetPatience) -> "Fleet":
        """A lost device was looked for in vain."""
        wait = min(2 * self.losses[name].wait_seconds, patience.longest_look_seconds)
        return replace(self, losses={**self.losses, name: Loss(reason, now + wait, wait)})

    def with_drained(self, name: str, *, is_drained: bool) -> "Fleet":
        """A person keeps a device out, or lets it back in."""
        others = self.drained - {name}
        return replace(self, drained=others | {name} if is_drained else others)

    def with_slowdowns(self, slowdowns: Mapping[str, float]) -> "Fleet":
        """How slow devices are, by what was measured."""
        return replace(self, slowdowns=dict(slowdowns))
