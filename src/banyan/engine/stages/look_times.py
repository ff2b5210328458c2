"""How long who waits sleeps, and looks again and again, and sleeps. Pure.

A core that sleeps wakes up late, by some 50 to 100 us, and every step over several processes waits
once for each of them. So who waits looks for a message around the time when it usually comes, and
gives its core to whoever computes there after each look (`links`). Before that it sleeps, and it
sleeps again when the message is late.
"""

from typing import NamedTuple

_GAIN = 1 / 4
_FACTOR = 2.0
"""Waits vary; of one that is longer than this many usual ones nothing is known."""

_LONGEST_USUAL_SECONDS = 0.03
"""Where messages take longer, waking up late is a thousandth of the wait."""

_LEAST_SECONDS = 200e-6
_MOST_REMEMBERED = 64


_SLEEP_SHARE = 0.75
"""Of a usual wait; what comes earlier wakes the sleeper, a little later than it might."""


class Times(NamedTuple):
    """What to do, counted from when the waiting begins.

    Attributes:
        sleep_milliseconds: sleep so long at first, and less only if something comes.
        look_until_seconds: then look again and again until then, and sleep after it.
    """

    sleep_milliseconds: int
    look_until_seconds: float


ASLEEP = Times(0, 0.0)
"""Never look."""


class LookTimes:
    """Learns how long messages take, apart for what they follow: in a step each wait is its own."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._usual: dict[str, float] = {}

    def of(self, last: str) -> Times:
        """How to wait for the message that follows `last`."""
        usual = self._usual.get(last)
        if usual is None or usual > _LONGEST_USUAL_SECONDS:
            return ASLEEP
        # Sleeping is done in whole milliseconds.
        return Times(int(1000 * _SLEEP_SHARE * usual), max(_FACTOR * usual, _LEAST_SECONDS))

    def came(self, last: str, seconds: float) -> None:
        """The message behind `last` was waited for so long."""
        usual = self._usual.get(last)
        if usual is None:
            if len(self._usual) >= _MOST_REMEMBERED:
                self._usual.clear()
            self._usual[last] = seconds
            return
        # A pause between two requests says little about the next step.
        most = _FACTOR * usual + _LEAST_SECONDS
        self._usual[last] = usual + (min(seconds, most) - usual) * _GAIN
