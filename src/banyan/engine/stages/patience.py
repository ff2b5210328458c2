"""How long who waits looks again and again before it sleeps. Pure.

A core that sleeps wakes up late, by some 50 to 100 us, and every step over several processes waits
once for each of them. So while messages come as they usually do, who waits looks for them and gives
its core to whoever computes there after each look (`links`); it sleeps when the next one is late.
"""

_GAIN = 1 / 4
_FACTOR = 2.0
"""Waits vary; of one that is longer than this many usual ones nothing is known."""

_LONGEST_USUAL_SECONDS = 0.03
"""Where messages take longer, waking up late is a thousandth of the wait."""

_LEAST_SECONDS = 200e-6
_MOST_REMEMBERED = 64


class Patience:
    """Learns how long messages take, apart for what they follow: in a step each wait is its own."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._usual: dict[str, float] = {}

    def look_seconds(self, last: str) -> float:
        """How long to look for the message that follows `last`; 0 where it takes too long."""
        usual = self._usual.get(last)
        if usual is None or usual > _LONGEST_USUAL_SECONDS:
            return 0.0
        return max(_FACTOR * usual, _LEAST_SECONDS)

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
