"""Two network namespaces with a link, workers in both, and the link goes down. Needs root.

Run: python -m tests.distributed.two_hosts
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from banyan.distributed.channel import Message
from banyan.distributed.secret import make_secret
from banyan.distributed.tcp import Address, listen_tcp
from banyan.foundation.errors import PeerSilent
from tests.distributed.peers import DRIVER, ended


def ip(*words: str) -> None:
    """Run the command that configures networks."""
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def second_host() -> Iterator[str]:
    """A namespace with the address 10.213.77.2; this one has 10.213.77.1."""
    name = f"banyan-{os.getpid()}"
    near, far = f"bn{os.getpid()}a", f"bn{os.getpid()}b"
    ip("netns", "add", name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        ip("addr", "add", "10.213.77.1/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "addr", "add", "10.213.77.2/30", "dev", far)
        ip("-n", name, "link", "set", far, "up")
        # Workers of that host talk to each other there.
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "del", name)


def main() -> None:
    secret = make_secret()
    with (
        second_host() as name,
        contextlib.closing(listen_tcp(Address("10.213.77.1", 0), secret, DRIVER)) as listener,
    ):
        where = f"10.213.77.1:{listener.port}"
        worker = [sys.executable, "-m", "tests.distributed.peer_process", where, "echo"]
        process = subprocess.Popen(["ip", "netns", "exec", name, *worker], stdin=subprocess.PIPE)
        with ended(process):
            assert process.stdin is not None
            process.stdin.write(secret.text.encode() + b"\n")
            process.stdin.flush()
            with contextlib.closing(listener.accept(60)) as channel:
                values = np.arange(1_000_000)
                channel.send(Message("run", {}, {"x": values}))
                assert np.array_equal(channel.receive(30).arrays["x"], values)
                ip("link", "set", f"bn{os.getpid()}a", "down")
                start = time.monotonic()
                try:
                    channel.receive(30)
                except PeerSilent as error:
                    sys.stdout.write(f"after {time.monotonic() - start:.2f} s: {error}\n")
                else:
                    raise AssertionError("something came over a link that is down")


if __name__ == "__main__":
    main()
