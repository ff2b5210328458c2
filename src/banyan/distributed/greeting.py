"""The first words of two workers: who they are and whether they fit together.

Owns `Identity`, the exchange of hellos and the comparison. Both sides compare, so both refuse.
"""

import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version as version_of

from banyan.distributed.framed_socket import FramedSocket
from banyan.distributed.frames import Frame, FrameType, Hello, read_hello
from banyan.foundation.errors import MessageLate, PeerLost, PeerRefused


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker is.

    Attributes:
        name: what others call it in their messages ("worker 2 on rack-b").
        plan: fingerprint of the plan that it carries out; None where it follows none yet. Two
            that name different plans refuse each other.
        version: of its Banyan; two of different versions refuse each other.
    """

    name: str
    plan: str | None = None
    version: str = field(default_factory=lambda: version_of("banyan-compute"))


def check_fit(own: Hello, theirs: Hello) -> None:
    """Whether the two may work together.

    Raises:
        PeerRefused: they may not.
    """
    if own.version != theirs.version:
        raise PeerRefused(
            f"{theirs.name} runs Banyan {theirs.version} and {own.name} runs {own.version};"
            f" install the same version on both."
        )
    if own.plan is not None and theirs.plan is not None and own.plan != theirs.plan:
        raise PeerRefused(
            f"{theirs.name} carries out plan {theirs.plan} and {own.name} plan {own.plan}; start"
            f" both with the same plan file."
        )


def exchange_hellos(
    framed: FramedSocket, own: Hello, deadline: float, clock: Callable[[], float] = time.monotonic
) -> tuple[Hello, list[Frame]]:
    """Say hello, hear hello and compare; the other's, and what came right behind it.

    Raises:
        MessageLate: no hello came in time.
        PeerLost: the other side hung up instead.
        PeerRefused: the two do not fit together.
        DamagedMessage: what came is no hello.
    """
    framed.put(FrameType.HELLO, own)
    frames: list[Frame] = []
    try:
        is_sent = framed.flush()
        while not frames or not is_sent:
            events = select.POLLIN | (0 if is_sent else select.POLLOUT)
            if not framed.wait(events, deadline - clock()):
                raise MessageLate("The other worker did not say hello in time.")
            is_sent = is_sent or framed.flush()
            frames += _read(framed)
    except (EOFError, OSError) as error:
        raise PeerLost("The other worker hung up instead of saying hello.") from error
    theirs = read_hello(frames[0])
    check_fit(own, theirs)
    return theirs, frames[1:]


def _read(framed: FramedSocket) -> list[Frame]:
    try:
        return framed.read()
    except BlockingIOError:
        return []
