"""What the tests of channels share: two ends in one process, and worker processes."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from banyan.distributed.channel import Channel
from banyan.distributed.greeting import Identity
from banyan.distributed.local import local_sockets, open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.secret import make_secret
from banyan.distributed.stream_channel import StreamChannel
from banyan.distributed.tcp import Address, connect_tcp, listen_tcp
from tests.distributed.peer_process import TIMING

DRIVER = Conditions(Identity("driver"), TIMING)
WORKER = Conditions(Identity("worker"), TIMING)
NEVER_SILENT = replace(DRIVER, timing=replace(TIMING, silent_seconds=3600.0))
"""Who listens like this learns of a death from the connection alone."""


def at_once(
    first: Callable[[], StreamChannel], second: Callable[[], StreamChannel]
) -> tuple[StreamChannel, StreamChannel]:
    """Open both ends: each waits for the other."""
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.submit(first), pool.submit(second)
        return one.result(), two.result()


@contextlib.contextmanager
def local_pair(
    first: Conditions = DRIVER, second: Conditions = WORKER, *, arena_bytes: int = 1 << 20
) -> Iterator[tuple[StreamChannel, StreamChannel]]:
    """Two ends of one host in this process."""
    a, b = local_sockets()
    one, two = at_once(
        lambda: open_local(a, first, arena_bytes=arena_bytes),
        lambda: open_local(b, second, arena_bytes=arena_bytes),
    )
    with contextlib.closing(one), contextlib.closing(two):
        yield one, two


@contextlib.contextmanager
def tcp_pair(
    first: Conditions = DRIVER, second: Conditions = WORKER
) -> Iterator[tuple[StreamChannel, StreamChannel]]:
    """Two ends of a TCP connection in this process."""
    secret = make_secret()
    with contextlib.closing(listen_tcp(Address("127.0.0.1", 0), secret, first)) as listener:
        two = connect_tcp(Address("127.0.0.1", listener.port), secret, second)
        one = listener.accept(10)
    with contextlib.closing(one), contextlib.closing(two):
        yield one, two


PAIRS = {"local": local_pair, "tcp": tcp_pair}


@contextlib.contextmanager
def local_worker(
    what: str, conditions: Conditions = DRIVER
) -> Iterator[tuple[Channel, "subprocess.Popen[bytes]"]]:
    """A worker process of this host, and the channel to it."""
    ours, theirs = local_sockets()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.peer_process", str(theirs.fileno()), what],
        pass_fds=[theirs.fileno()],
        stdout=subprocess.PIPE,
    )
    theirs.close()
    # A process that starts on a busy machine may take a while.
    patient = replace(conditions, timing=replace(conditions.timing, opening_seconds=60.0))
    with ended(process), contextlib.closing(open_local(ours, patient)) as channel:
        yield channel, process


@contextlib.contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End the process whatever happens."""
    try:
        yield
    finally:
        process.kill()
        process.wait(30)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
