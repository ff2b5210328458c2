"""`banyan worker`: lend a device of this machine to an engine on another host."""

import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
        with closing(visitor.channel):
            try:
                serve_part(visitor, open_part, meeting.meet, lending.own_pulse)
            except ChannelError:
                # That engine is gone; the next may come.
                continue


def _write_secret(path: Path) -> None:
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(make_secret().text + "\n")
    except OSError as error:
        raise InputError(f"a secret cannot be written to {path}: {error}") from error
