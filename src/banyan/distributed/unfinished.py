"""Waiting for the arrays of a message whose head went ahead of them.

Owns `await_written`. The sender copies at that moment and waits for nobody meanwhile, so it takes
some tens of microseconds, unless its process dies or is stopped over that.
"""

import time

from banyan.distributed.framed_socket import FramedSocket
from banyan.distributed.frames import MessageHead
from banyan.distributed.silence import Silence
from banyan.distributed.words import HeardWords
from banyan.foundation.errors import PeerLost, PeerSilent

# Take longer than copying what is sent early (`outgoing`), unless somebody else has the core.
_LOOKS = 1000
_PAUSE_SECONDS = 50e-6


def await_written(
    framed: FramedSocket, heard: HeardWords, head: MessageHead, silent_seconds: float
) -> None:
    """Look until the arrays of `head` are written.

    Raises:
        PeerLost: the sender died over that.
        PeerSilent: it was stopped over that, for `silent_seconds`.
    """
    number = head.unfinished
    for _ in range(_LOOKS):
        if heard.written >= number:
            return
    silence = Silence(silent_seconds, time.monotonic())
    while heard.written < number:
        if framed.is_over and heard.written < number:
            raise PeerLost(f"it ended in the middle of message {head.kind!r}.")
        if silence.observe(time.monotonic()):
            raise PeerSilent(f"it was stopped in the middle of message {head.kind!r}.")
        time.sleep(_PAUSE_SECONDS)
