"""How long nothing was heard of another process. Pure: times come in as arguments."""


class Silence:
    """Counts how long a peer has been silent while this side listened.

    One step of the count is at most a third of the limit. A process that was itself stopped, or
    busy, for a minute therefore does not wake up and call the other one dead before it has looked
    at what lies in its own socket.
    """

    def __init__(self, limit_seconds: float, now: float) -> None:
        self._limit = limit_seconds
        self._last = now
        self.seconds = 0.0

    def heard(self, now: float) -> None:
        """Something came."""
        self.seconds = 0.0
        self._last = now

    def observe(self, now: float) -> bool:
        """Nothing was there to read; whether that has lasted too long."""
        self.seconds += min(max(0.0, now - self._last), self._limit / 3)
        self._last = now
        return self.seconds > self._limit
