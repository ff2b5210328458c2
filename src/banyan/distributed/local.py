"""Channels between two processes of one host: arrays in shared memory, the rest on a socket.

Owns `open_local` and the socket pair that a parent makes for a worker. Nobody else can come in
between: the socket and the memory have no names, and are handed over by descriptor.
"""

import os
import socket
import struct

from banyan.distributed import shared_memory
from banyan.distributed.framed_socket import FramedSocket
from banyan.distributed.frames import PROTOCOL
from banyan.distributed.greeting import exchange_hellos
from banyan.distributed.line import PlainLine
from banyan.distributed.opened import Opened
from banyan.distributed.opening import Conditions, set_time_left
from banyan.distributed.outgoing import Outgoing
from banyan.distributed.stream_channel import StreamChannel
from banyan.distributed.words import SpokenWords, can_speak
from banyan.foundation.errors import DamagedMessage, MessageLate, PeerLost, PeerRefused

ARENA_BYTES = 256 << 20
_LEAST_ARENA_BYTES = 4096
_MOST_ARENA_BYTES = 1 << 40
# Magic, protocol, size of the memory whose descriptor comes with it.
_OFFER = struct.Struct("<4sIQ")
_MAGIC = b"BNYM"


def local_sockets() -> tuple[socket.socket, socket.socket]:
    """Two ends for two processes.

    A parent keeps one, gives the other's `fileno()` to its child (`subprocess.Popen(...,
    pass_fds=...)`), closes its copy of that, and both call `open_local`.
    """
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def open_local(
    connection: socket.socket | int, conditions: Conditions, *, arena_bytes: int = ARENA_BYTES
) -> StreamChannel:
    """Open a channel; the other side does the same at the same time.

    Args:
        connection: one end of `local_sockets`, or its descriptor; the channel closes it, also when
            this raises.
        conditions: who this is, and when what is due.
        arena_bytes: size of the memory that this side sends arrays in. Only what is used at the
            same time becomes real memory; messages that find no room go over the socket, slower.

    Raises:
        PeerRefused: the two are of different versions, protocols or plans.
        MessageLate: the other side did not answer in time.
        PeerLost: it hung up.
        DamagedMessage: it is no worker.
        EnvironmentProblem: there is no shared memory here.
    """
    end = socket.socket(fileno=connection) if isinstance(connection, int) else connection
    try:
        return _open(end, conditions, arena_bytes)
    except BaseException:
        end.close()
        raise


def _open(end: socket.socket, conditions: Conditions, arena_bytes: int) -> StreamChannel:
    deadline = conditions.deadline()
    descriptor, memory = shared_memory.create(arena_bytes)
    try:
        set_time_left(end, deadline)
        offer = _OFFER.pack(_MAGIC, PROTOCOL, arena_bytes)
        socket.send_fds(end, [offer], [descriptor])
        loans = _receive_memory(end, deadline)
    except TimeoutError as error:
        raise MessageLate("The other worker did not answer in time while connecting.") from error
    except OSError as error:
        raise PeerLost(f"The other worker hung up while connecting: {error}.") from error
    finally:
        os.close(descriptor)
    framed = FramedSocket(end, PlainLine(), conditions.limits)
    theirs, early = exchange_hellos(framed, conditions.hello(arena_bytes), deadline)
    spoken = SpokenWords(memory) if can_speak() else None
    outgoing = Outgoing(memory, loans, spoken)
    opened = Opened(framed, theirs, "shared memory", early, outgoing, loans)
    return StreamChannel(opened, conditions.timing, conditions.limits, conditions.own_pulse)


def _receive_memory(end: socket.socket, deadline: float) -> shared_memory.Loans:
    """Map the memory that the other side writes."""
    received, descriptors = b"", []
    try:
        while len(received) < _OFFER.size:
            set_time_left(end, deadline)
            piece, more, _, _ = socket.recv_fds(end, _OFFER.size - len(received), 1)
            descriptors += more
            if not piece:
                raise PeerLost("The other worker hung up while connecting.")
            received += piece
        magic, protocol, size = _OFFER.unpack(received)
        if magic != _MAGIC or len(descriptors) != 1:
            raise DamagedMessage("The other process is no Banyan worker: it shares no memory.")
        if protocol != PROTOCOL:
            raise PeerRefused(
                f"The other worker speaks protocol {protocol} and this one {PROTOCOL}; install the"
                f" same Banyan on both."
            )
        if not _LEAST_ARENA_BYTES <= size <= _MOST_ARENA_BYTES:
            raise DamagedMessage(f"The other worker shares {size} bytes of memory; that is absurd.")
        return shared_memory.Loans(shared_memory.attach(descriptors[0], size))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
