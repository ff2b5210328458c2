"""Messages to oneself, so that reading the next one of a step takes the time it needs and no more.

A kernel reads hundreds of megabytes, and nothing of the interpreter, of this program or of the
system's sockets is in the caches of a core behind it: a message takes ten times as long to read as
it does in a row of them. Who looks for a message has nothing else to do, so now and then it sends
one to itself and reads it, by the same way (`links`).
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from banyan.distributed.channel import Channel, Message
from banyan.distributed.greeting import Identity
from banyan.distributed.local import local_sockets, open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.pulse import Timing
from banyan.foundation.errors import ChannelError, EnvironmentProblem, MessageLate

_TIMING = Timing(beat_seconds=600.0, silent_seconds=86400.0)
"""Both ends are here: nobody has to say that he is alive."""

_MEMORY_BYTES = 1 << 20
_ARRAY_BYTES = 40 << 10
"""More than goes over a socket, so that shared memory is used, too."""


class Rehearsal:
    """A channel whose two ends are here."""

    def __init__(self) -> None:
        """Open it; where this system has nothing left to open, nothing is rehearsed."""
        try:
            self._ends = _ends()
        except (EnvironmentProblem, ChannelError, MessageLate, OSError):
            self._ends = None
        arrays = {"value": np.zeros(_ARRAY_BYTES, np.uint8)}
        self._message = Message("values", {"step": 0}, arrays)

    def run(self) -> bool:
        """Send and read a message; false when that is not possible."""
        if self._ends is None:
            return False
        sender, reader = self._ends
        try:
            sender.send(self._message, timeout=0)
            reader.receive(timeout=0)
        except (ChannelError, MessageLate):
            return False
        return True

    def close(self) -> None:
        """Give it back."""
        for end in self._ends or ():
            end.close()


def _ends() -> tuple[Channel, Channel] | None:
    conditions = Conditions(Identity("a rehearsal"), _TIMING)
    one, other = local_sockets()
    # Each waits for what the other says first.
    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(open_local, other, conditions, arena_bytes=_MEMORY_BYTES)
        return open_local(one, conditions, arena_bytes=_MEMORY_BYTES), opening.result()
