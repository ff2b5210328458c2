"""`banyan worker`: lend a device of this machine to an engine on another host."""

import select
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from banyan.distributed.channel import Channel
from banyan.distributed.greeting import Identity
from banyan.distributed.listener import Listener
from banyan.distributed.opening import Conditions
from banyan.distributed.pulse import OwnPulse
from banyan.distributed.secret import SharedSecret, make_secret, read_secret
from banyan.distributed.tcp import Address, listen_tcp
from banyan.engine.stages.meeting import Meeting
from banyan.engine.stages.part_service import serve_part
from banyan.engine.starting.stage_worker import open_ordered
from banyan.engine.starting.workers import MEETING_TIMING, WORKER_TIMING
from banyan.foundation.errors import ChannelClosed, ChannelError, InputError
from banyan.foundation.settings import Settings

_PATIENCE_SECONDS = 10.0
"""So long an engine waits for the one before it, which may be gone without a word."""

_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Lending:
    """A device that is lent to engines of other hosts.

    Attributes:
        listener: where engines, and neighbours of the same plan, connect.
        device: of this machine.
        secret: what all of them know.
        own_pulse: how long this worker has been at its step.
    """

    listener: Listener
    device: str
    secret: SharedSecret
    own_pulse: OwnPulse


def open_lending(listen: str, secret: Path, device: str) -> Lending:
    """Listen for engines.

    Args:
        listen: HOST:PORT; port 0 takes a free one.
        secret: file with the secret, made where there is none yet.
        device: of this machine, for the name others read.

    Raises:
        InputError: no address, or a secret that cannot be read.
        EnvironmentProblem: the address cannot be listened at.
    """
    host, colon, port = listen.rpartition(":")
    if not (host and colon and port.isdigit() and int(port) < 65536):
        raise InputError(f"--listen {listen!r} is not HOST:PORT; give both, such as 0.0.0.0:4711")
    if not secret.exists():
        _write_secret(secret)
    known, pulse = read_secret(secret), OwnPulse(time.monotonic())
    conditions = Conditions(Identity(f"the worker of {device}"), WORKER_TIMING, own_pulse=pulse)
    listener = listen_tcp(Address(host.strip("[]"), int(port)), known, conditions)
    return Lending(listener, device, known, pulse)


def serve_engines(lending: Lending, settings: Settings) -> None:
    """Work for one engine after the other, until the listener is closed."""
    identity = Identity(f"the worker of {lending.device}")
    conditions = Conditions(identity, MEETING_TIMING, own_pulse=lending.own_pulse)
    meeting = Meeting(conditions, listener=lending.listener, secret=lending.secret)
    open_part = partial(open_ordered, settings, lending.device)
    while True:
        try:
            visitor = meeting.next_visitor()
        except ChannelClosed:
            return
        with closing(visitor.channel), turning_away_others(meeting, visitor.channel):
            try:
                serve_part(visitor, open_part, meeting.meet, lending.own_pulse)
            except ChannelError:
                # That engine is gone; the next may come.
                continue


@contextmanager
def turning_away_others(
    meeting: Meeting, engine: Channel, patience_seconds: float = _PATIENCE_SECONDS
) -> Iterator[None]:
    """Refuse other engines while one is worked for, which has not hung up."""
    is_over = threading.Event()
    reason = (
        f"it works for {engine.peer}; stop that one, or start another worker on a port of its own"
    )
    connection = select.poll()
    connection.register(engine.fileno(), select.POLLRDHUP)

    def look() -> None:
        while not is_over.wait(min(_LOOK_SECONDS, patience_seconds)):
            # Behind one that hung up in the middle of a long task the next one has its turn.
            if not connection.poll(0):
                meeting.turn_away(patience_seconds, reason)

    thread = threading.Thread(target=look, name="banyan-refusing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _write_secret(path: Path) -> None:
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(make_secret().text + "\n")
    except OSError as error:
        raise InputError(f"a secret cannot be written to {path}: {error}") from error
