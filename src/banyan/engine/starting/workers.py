"""The worker processes of a plan, as the engine starts them here or reaches them elsewhere."""

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from banyan.distributed.channel import Channel
from banyan.distributed.greeting import Identity
from banyan.distributed.local import local_sockets, open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.pulse import Timing
from banyan.distributed.secret import read_secret
from banyan.distributed.tcp import Address, connect_tcp
from banyan.engine.options import EngineOptions
from banyan.engine.stages.addresses import PlaceAddress
from banyan.engine.stages.part import NumberedSegment
from banyan.engine.stages.remote_part import RemotePart, WorkOrder
from banyan.engine.starting.worker_processes import WaitingWorkers, WorkerProcess
from banyan.foundation.errors import ChannelError, InputError, MessageLate, StageFailed

WORKER_TIMING = Timing(opening_seconds=60.0, silent_seconds=2.0)
"""A worker imports NumPy and the compiler before it says hello, on a machine that may be busy."""

EMPLOYED_TIMING = Timing(opening_seconds=60.0, silent_seconds=86400.0)
"""Of a worker to the engine that started it. The kernel says when that ends; one that is silent is
stopped, by a Ctrl-Z in its terminal perhaps, and goes on where it was."""

MEETING_TIMING = Timing(opening_seconds=10.0, silent_seconds=2.0)
"""Of workers among themselves, which are ready when they meet."""

_TCP_TIMING = Timing(opening_seconds=5.0, silent_seconds=1.0)
"""One that listens says hello at once; while the network is cut, requests wait for the answer. Its
beats come four times a second, from a thread of their own."""

Neighbours = Mapping[str, socket.socket]
"""Sockets of one worker to others on this host, by place."""

Sockets = Mapping[str, Neighbours]
"""By place, the ends of its sockets to neighbours on this host."""


@contextmanager
def sockets_between(
    pairs: Iterable[tuple[str, str]], addresses: Mapping[str, PlaceAddress]
) -> Iterator[Sockets]:
    """A socket for each pair of workers that both are processes of this host.

    Workers get copies when they are employed; these here are closed behind the block.
    """
    found: dict[str, dict[str, socket.socket]] = {place: {} for place in addresses}
    with ExitStack() as opened:
        for first, second in pairs:
            if addresses[first].kind == addresses[second].kind == "process":
                one, other = local_sockets()
                found[first][second] = opened.enter_context(one)
                found[second][first] = opened.enter_context(other)
        yield found


def open_worker(
    order: WorkOrder,
    address: PlaceAddress,
    segments: Sequence[NumberedSegment],
    options: EngineOptions,
    sockets: Sockets,
    waiting: WaitingWorkers,
) -> RemotePart:
    """Start or reach a worker, or take one that waits, and let it compile its part.

    Raises:
        InputError: the worker cannot use what is asked of it, or no secret is given.
        StageFailed: it is not reached, or failed.
    """
    try:
        part = _connect(order.place, address, options, sockets[order.place], waiting)
    except (ChannelError, MessageLate) as error:
        raise StageFailed(
            f"the worker of {order.place} cannot be used: {error}", place=order.place
        ) from error
    try:
        part.open(order, segments)
    except BaseException:
        part.close()
        raise
    return part


def _connect(
    place: str,
    address: PlaceAddress,
    options: EngineOptions,
    neighbours: Neighbours,
    waiting: WaitingWorkers,
) -> RemotePart:
    identity = Identity(f"the engine, for {place}")
    if address.kind == "process":
        conditions = Conditions(identity, WORKER_TIMING)
        return _open_process(waiting.take(place), place, conditions, neighbours)
    if options.plan_secret is None:
        raise InputError(
            f"{place} is at tcp://{address.host}:{address.port}, and workers of other hosts share "
            "a secret; give plan_secret, a file that holds it"
        )
    secret = read_secret(Path(options.plan_secret))
    there = Address(address.host, address.port)
    channel = connect_tcp(there, secret, Conditions(identity, _TCP_TIMING))
    return RemotePart(place, channel, lambda _: None)


def _open_process(
    process: WorkerProcess, place: str, conditions: Conditions, neighbours: Neighbours
) -> RemotePart:
    """Let a process that was started compute a part."""
    try:
        process.employ(neighbours)
        channel: Channel = open_local(process.end, conditions)
    except BaseException:
        process.end.close()
        process.kill()
        raise
    return RemotePart(place, channel, process.see_off)
