"""A worker process for tests: `python -m tests.distributed.peer_process WHERE WHAT`.

WHERE is a descriptor of a socket pair, or host:port with the secret on standard input. WHAT:

    echo     send back what comes
    spin     take one message, then compute for ever without receiving
    flood    send messages of a megabyte for ever
    drop     receive one message, say so on standard output, and wait to be ended
"""

import contextlib
import sys
import time

import numpy as np

from banyan.distributed.channel import Channel, Message
from banyan.distributed.greeting import Identity
from banyan.distributed.local import open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.pulse import Timing
from banyan.distributed.secret import SharedSecret
from banyan.distributed.tcp import Address, connect_tcp
from banyan.foundation.errors import ChannelError

TIMING = Timing(beat_seconds=0.05, silent_seconds=1.0)


def connect(where: str) -> Channel:
    conditions = Conditions(Identity("worker"), TIMING)
    if ":" not in where:
        return open_local(int(where), conditions)
    host, _, port = where.rpartition(":")
    secret = SharedSecret(sys.stdin.readline().strip())
    return connect_tcp(Address(host, int(port)), secret, conditions, patience_seconds=10)


def run(channel: Channel, what: str) -> None:
    if what == "echo":
        while True:
            message = channel.receive()
            channel.send(Message("echo", {"kind": message.kind, **message.fields}, message.arrays))
    if what == "flood":
        while True:
            channel.send(Message("part", {}, {"x": np.zeros(1 << 20, np.uint8)}))
    channel.receive()
    while True:
        time.sleep(0.01 if what == "spin" else 60)


if __name__ == "__main__":
    with contextlib.closing(connect(sys.argv[1])) as channel, contextlib.suppress(ChannelError):
        run(channel, sys.argv[2])
