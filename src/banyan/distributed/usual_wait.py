"""How long messages usually take to come, and so when to sleep and when to look. Pure.

Owns `UsualWait` and `UsualWaits`. A core that sleeps wakes up late, the later the longer it slept,
and a decode step over two stages waits twice. So who waits sleeps only until shortly before the
message usually comes, and then looks again and again. Where messages come irregularly it sleeps,
for looking takes time from those who compute.
"""

from dataclasses import dataclass

from banyan.foundation.errors import InputError

_GAIN = 1 / 4
# Of one that has not been awaited yet.
_FIRST_LATE_SECONDS = 100e-6
_MOST_REMEMBERED = 64
# A pause between two requests says nothing about the next step.
_LONGEST_USUAL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class WaitPlan:
    """What to do until the message comes, counted from when the waiting begins.

    Attributes:
        sleep_seconds: first sleep for so long at most, unless the message comes earlier.
        look_until_seconds: then look again and again until this time; after it, sleep.
    """

    sleep_seconds: float
    look_until_seconds: float


_SLEEP = WaitPlan(0.0, 0.0)


class UsualWait:
    """Learns from the waits before, by running means of them and of how far they were off."""

    def __init__(self, look_seconds: float) -> None:
        """Know nothing yet.

        Args:
            look_seconds: for how long looking without sleep is always worth it, where messages
                come within that time; at most five times that is looked after a sleep.

        Raises:
            InputError: that is negative.
        """
        if look_seconds < 0:
            raise InputError(f"Looking for {look_seconds} s is no time; give 0 or more.")
        self._look_seconds = look_seconds
        self._look_at_once = WaitPlan(0.0, look_seconds)
        self._mean: float | None = None
        self._deviation = 0.0
        self._late = _FIRST_LATE_SECONDS

    def plan(self) -> WaitPlan:
        """How to wait for the next one."""
        mean, look = self._mean, self._look_seconds
        if mean is None or look == 0:
            return _SLEEP
        if mean < look:
            return self._look_at_once
        margin = 3 * self._deviation + look / 2
        start, end = mean - self._late - margin, mean + margin
        if end - max(start, 0.0) > min(5 * look, mean) or mean > _LONGEST_USUAL_SECONDS:
            return _SLEEP
        return WaitPlan(max(start, 0.0), end)

    def came(self, seconds: float) -> None:
        """A message came after `seconds` of waiting."""
        if self._mean is None:
            if seconds < _LONGEST_USUAL_SECONDS:
                self._mean, self._deviation = seconds, seconds / 2
            return
        # One long prompt among many short steps must not hide how long those take.
        most = 4 * self._deviation + self._look_seconds
        off = max(-most, min(seconds - self._mean, most))
        self._deviation += (abs(off) - self._deviation) * _GAIN
        self._mean += off * _GAIN

    def overslept(self, seconds: float) -> None:
        """A sleep without a message was so much longer than asked."""
        seconds = min(max(0.0, seconds), 5 * self._look_seconds)
        self._late += (seconds - self._late) * _GAIN


class UsualWaits:
    """Keeps apart what is waited for after what: in a step each wait has a length of its own."""

    def __init__(self, look_seconds: float) -> None:
        """Know nothing yet; see `UsualWait`."""
        self._look_seconds = look_seconds
        self._known: dict[str, UsualWait] = {}

    def after(self, last: str) -> UsualWait:
        """The waits that began after `last`, the kind of a message or whoever sent it."""
        found = self._known.get(last)
        if found is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            found = self._known[last] = UsualWait(self._look_seconds)
        return found
