"""Whether a worker is well, slow, hung or gone. Pure, apart from what the callers measure.

Owns the timing of beats and the judgement; `silence` counts. A beat comes from a thread of its
own, so it comes through the longest step; what stops it is a process that was killed or stopped, a
frozen host or a cut network. What a beat says (how long the worker has been at its step) tells a
slow step from one that never ends, once somebody knows how long a step should take.
"""

from dataclasses import dataclass
from enum import Enum

from banyan.distributed.channel import PeerPulse
from banyan.foundation.errors import InputError


@dataclass(frozen=True, slots=True)
class Timing:
    """When something is due.

    Attributes:
        beat_seconds: an idle worker says this often that it is alive.
        silent_seconds: without a beat for this long, the channel breaks with `PeerSilent`.
        opening_seconds: in which a connection must be made and both sides have said hello.
        spin_seconds: for how long `receive` looks again and again before it sleeps, where
            messages usually come within that time; elsewhere it sleeps at once.
        linger_seconds: how long `close` waits until the last message is on its way, and, in the
            background, until the other host has it.
    """

    beat_seconds: float = 0.25
    silent_seconds: float = 3.0
    opening_seconds: float = 10.0
    spin_seconds: float = 200e-6
    linger_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.beat_seconds <= self.silent_seconds / 3:
            raise InputError(
                f"A silence of {self.silent_seconds} s with a beat every {self.beat_seconds} s"
                f" would break good connections; allow at least three beats."
            )


class OwnPulse:
    """How long this worker has been at its step; shared by all its channels.

    It counts from when a `receive` last gave it something to do until it waits again.
    """

    def __init__(self, now: float) -> None:
        self._working_since: float | None = now

    def waits(self) -> None:
        """The worker waits for a message."""
        self._working_since = None

    def works(self, now: float) -> None:
        """The worker has something to do."""
        self._working_since = now

    def working_seconds(self, now: float) -> float:
        """Since when it works; 0 while it waits."""
        since = self._working_since
        return 0.0 if since is None else max(0.0, now - since)


class Condition(Enum):
    """How a worker is."""

    WELL = "well"
    SLOW = "slow"
    HUNG = "hung"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Patience:
    """How much longer than expected a step may take.

    Attributes:
        slow_ratio: beyond so many times the expected time a step is slow.
        hung_ratio: beyond so many times it is taken for endless.
        least_hung_seconds: but never before this; a step of a millisecond may meet a full disk.
    """

    slow_ratio: float = 2.0
    hung_ratio: float = 20.0
    least_hung_seconds: float = 5.0


def judge(
    pulse: PeerPulse, expected_seconds: float, timing: Timing, patience: Patience
) -> Condition:
    """How a worker is that was given a step.

    Args:
        pulse: what its channel knows of it.
        expected_seconds: how long the step should take, by the cost model or by those before it.
        timing: of the channel.
        patience: of whoever gave the step.
    """
    if pulse.silent_seconds > timing.silent_seconds:
        return Condition.SILENT
    working = pulse.working_seconds
    if working > max(patience.hung_ratio * expected_seconds, patience.least_hung_seconds):
        return Condition.HUNG
    if working > patience.slow_ratio * expected_seconds:
        return Condition.SLOW
    return Condition.WELL
