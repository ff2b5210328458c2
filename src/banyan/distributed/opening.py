"""What opening a connection has in common, on one host and between two.

Owns the hello of this side and reading a fixed number of bytes by a deadline.
"""

import socket
import time
from dataclasses import dataclass, field

from banyan.distributed.frames import FrameLimits, Hello
from banyan.distributed.greeting import Identity
from banyan.distributed.pulse import OwnPulse, Timing
from banyan.foundation.errors import MessageLate, PeerLost


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which a worker opens its channels.

    Attributes:
        identity: who it is.
        timing: when what is due.
        limits: what it refuses.
        own_pulse: how long it has been at its step; one for all its channels. None: each channel
            counts for itself.
    """

    identity: Identity
    timing: Timing = field(default_factory=Timing)
    limits: FrameLimits = field(default_factory=FrameLimits)
    own_pulse: OwnPulse | None = None

    def hello(self, arena_bytes: int = 0) -> Hello:
        """What this side says first."""
        return Hello(
            name=self.identity.name,
            version=self.identity.version,
            plan=self.identity.plan,
            beat_seconds=self.timing.beat_seconds,
            arena_bytes=arena_bytes,
        )

    def deadline(self) -> float:
        """When a connection that is begun now must be open, on the monotonic clock."""
        return time.monotonic() + self.timing.opening_seconds


def set_time_left(connection: socket.socket, deadline: float) -> None:
    """Let blocking calls on the socket end at the deadline.

    Raises:
        MessageLate: it has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise MessageLate("The other worker did not answer in time while connecting.")
    connection.settimeout(left)


def receive_exactly(connection: socket.socket, size: int, deadline: float) -> bytes:
    """So many bytes, and not one more.

    Raises:
        MessageLate: they did not come by the deadline.
        PeerLost: the stream ended before.
    """
    received = bytearray()
    while len(received) < size:
        set_time_left(connection, deadline)
        try:
            piece = connection.recv(size - len(received))
        except TimeoutError as error:
            raise MessageLate(
                f"The other worker sent {len(received)} of {size} bytes while connecting, and then"
                f" nothing."
            ) from error
        except OSError as error:
            raise PeerLost(f"The other worker hung up while connecting: {error}.") from error
        if not piece:
            raise PeerLost(
                f"The other worker hung up while connecting, after {len(received)} of {size} bytes."
            )
        received += piece
    return bytes(received)
