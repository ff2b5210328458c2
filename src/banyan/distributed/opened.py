"""What a connection is between its opening and its channel.

Owns `Opened`, which `local` and `tcp` hand to `stream_channel`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from banyan.distributed.framed_socket import FramedSocket
from banyan.distributed.frames import Frame, Hello
from banyan.distributed.outgoing import Outgoing
from banyan.distributed.shared_memory import Loans


@dataclass(frozen=True, slots=True)
class Opened:
    """What a connection is after its opening.

    Attributes:
        framed: the socket; hellos have been exchanged.
        theirs: what the other side said.
        place: how it is connected, for a person ("shared memory", "tcp 10.0.0.7:4711").
        early: frames that came right behind the hello.
        outgoing: lays out what is sent.
        loans: the memory that the other side writes and this side reads, if there is one.
    """

    framed: FramedSocket
    theirs: Hello
    place: str
    early: Sequence[Frame]
    outgoing: Outgoing
    loans: Loans | None = None
