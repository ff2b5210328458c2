"""Channels between two hosts: TCP, every byte authenticated and encrypted.

Owns `connect_tcp`, `listen_tcp` and the exchange of the handshake's two messages. Before it,
nothing is believed: eight bytes say which protocol, and whoever does not have the secret gets no
further.
"""

import random
import socket
import struct
import time
from dataclasses import dataclass

from banyan.distributed.cipher import SealedLine
from banyan.distributed.framed_socket import FramedSocket
from banyan.distributed.frames import PROTOCOL
from banyan.distributed.greeting import exchange_hellos
from banyan.distributed.listener import Listener
from banyan.distributed.noise import MESSAGE_BYTES, Handshake
from banyan.distributed.opened import Opened
from banyan.distributed.opening import Conditions, receive_exactly, set_time_left
from banyan.distributed.outgoing import Outgoing
from banyan.distributed.secret import SharedSecret
from banyan.distributed.stream_channel import StreamChannel
from banyan.foundation.errors import (
    DamagedMessage,
    EnvironmentProblem,
    MessageLate,
    PeerLost,
    PeerRefused,
)

# Magic, protocol, answer, bytes that follow.
_PREAMBLE = struct.Struct("<4sBBH")
_MAGIC = b"BNYT"
_GOOD, _OTHER_SECRET = 0, 1
_PROLOGUE = b"banyan worker link %d" % PROTOCOL
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a worker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def listen_tcp(address: Address, secret: SharedSecret, conditions: Conditions) -> Listener:
    """Take connections of workers that have the same secret.

    Args:
        address: where; port 0 takes any free one, see `Listener.port`.
        secret: what all workers share.
        conditions: who this is, and when what is due.

    Raises:
        EnvironmentProblem: the address is taken, or none of this host.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listening = socket.create_server((address.host, address.port), family=family, backlog=64)
    except OSError as error:
        raise EnvironmentProblem(
            f"Workers cannot connect to {address}: {error}; choose another address or port."
        ) from error

    def open_one(connection: socket.socket, peer: str) -> StreamChannel:
        return _open(connection, peer, secret, conditions, is_initiator=False)

    return Listener(listening, open_one)


def connect_tcp(
    address: Address, secret: SharedSecret, conditions: Conditions, *, patience_seconds: float = 0.0
) -> StreamChannel:
    """Connect to a worker that listens.

    Args:
        address: where it listens.
        secret: what all workers share.
        conditions: who this is, and when what is due.
        patience_seconds: for how long to try again while nobody answers; a worker may come later,
            or a network come back. A refusal is not tried again.

    Raises:
        PeerRefused: the two have different secrets, versions, protocols or plans.
        PeerLost: nobody answers there, or hung up.
        MessageLate: it took too long.
        DamagedMessage: what listens there is no worker.
    """
    until = time.monotonic() + patience_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return _connect_once(address, secret, conditions)
        except (PeerLost, MessageLate):
            if time.monotonic() + pause > until:
                raise
        # Not all of them at the same moment when a host comes back.
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _connect_once(address: Address, secret: SharedSecret, conditions: Conditions) -> StreamChannel:
    try:
        connection = socket.create_connection(
            (address.host, address.port), timeout=conditions.timing.opening_seconds
        )
    except OSError as error:
        raise PeerLost(f"No worker answers at {address}: {error}.") from error
    try:
        return _open(connection, str(address), secret, conditions, is_initiator=True)
    except BaseException:
        connection.close()
        raise


def _open(
    connection: socket.socket,
    peer: str,
    secret: SharedSecret,
    conditions: Conditions,
    *,
    is_initiator: bool,
) -> StreamChannel:
    deadline = conditions.deadline()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    handshake = Handshake(secret.key, _PROLOGUE, is_initiator=is_initiator)
    if is_initiator:
        _send(connection, handshake.write(), deadline)
        _read_answer(connection, handshake, peer, deadline)
    else:
        _read_first(connection, handshake, peer, deadline)
        _send(connection, handshake.write(), deadline)
    framed = FramedSocket(connection, SealedLine(*handshake.split()), conditions.limits)
    theirs, early = exchange_hellos(framed, conditions.hello(), deadline)
    opened = Opened(framed, theirs, f"tcp {peer}", early, Outgoing())
    return StreamChannel(opened, conditions.timing, conditions.limits, conditions.own_pulse)


def _send(connection: socket.socket, message: bytes, deadline: float, answer: int = _GOOD) -> None:
    set_time_left(connection, deadline)
    try:
        connection.sendall(_PREAMBLE.pack(_MAGIC, PROTOCOL, answer, len(message)) + message)
    except TimeoutError as error:
        raise MessageLate("The other worker took nothing while connecting.") from error
    except OSError as error:
        raise PeerLost(f"The other worker hung up while connecting: {error}.") from error


def _read_answer(
    connection: socket.socket, handshake: Handshake, peer: str, deadline: float
) -> None:
    """The second message, read by whoever connected."""
    answer, message = _read(connection, peer, deadline)
    if answer == _OTHER_SECRET:
        raise PeerRefused(
            f"The worker at {peer} refused the shared secret of this one; give both the same."
        )
    try:
        handshake.read(message)
    except PeerRefused as error:
        raise PeerRefused(
            f"The worker at {peer} does not have the shared secret; give both the same."
        ) from error


def _read_first(
    connection: socket.socket, handshake: Handshake, peer: str, deadline: float
) -> None:
    """The first message, read by whoever listens."""
    _, message = _read(connection, peer, deadline)
    try:
        handshake.read(message)
    except PeerRefused as error:
        _send(connection, b"", deadline, _OTHER_SECRET)
        raise PeerRefused(
            f"A worker at {peer} was refused: it has another shared secret; give both the same."
        ) from error


def _read(connection: socket.socket, peer: str, deadline: float) -> tuple[int, bytes]:
    preamble = receive_exactly(connection, _PREAMBLE.size, deadline)
    magic, protocol, answer, size = _PREAMBLE.unpack(preamble)
    if magic != _MAGIC:
        raise DamagedMessage(f"{peer} is no Banyan worker: it began with {magic!r}.")
    if protocol != PROTOCOL:
        raise PeerRefused(
            f"The worker at {peer} speaks protocol {protocol} and this one {PROTOCOL}; install the"
            f" same Banyan on both."
        )
    if answer == _OTHER_SECRET:
        return answer, b""
    if answer != _GOOD or size != MESSAGE_BYTES:
        raise DamagedMessage(f"{peer} sent a handshake of {size} bytes; it has {MESSAGE_BYTES}.")
    return answer, receive_exactly(connection, size, deadline)
