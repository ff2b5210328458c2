"""How fast messages go between two workers: as a share of memcpy, and one way in microseconds.

Two processes, each on a core of its own where there are two. The copy that everything is compared
with is numpy's, of the same size, between two warm buffers, in the sending process, in turns with
what is measured. Three figures per size and kind of channel:

- one at a time: bytes over the time from `send` to the return of `receive`, median of messages;
- stream: many messages without waiting, bytes over all the time;
- stream, copied out: the receiver also copies every array into memory of its own. Without that it
  reads arrays where they lie (shared memory), as a stage does.

Round trip: an array there and one of the same size back, each copied by `send`, or both reserved
(`Channel.reserve`), where who computes them writes them at once where they are read.

One way: from the call of `send` to the return of `receive`, by the clock that both processes share.

Run: python -m benchmarks.transport [--rounds 5] [--quick] [--keep]
"""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from banyan.distributed.channel import Array, Channel, Message, TypedShape
from banyan.distributed.greeting import Identity
from banyan.distributed.local import local_sockets, open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.secret import SharedSecret, make_secret
from banyan.distributed.tcp import Address, connect_tcp, listen_tcp
from banyan.foundation.errors import ChannelClosed
from benchmarks.slice import append_record, commit_facts

HISTORY = Path(__file__).resolve().parent / "history" / "transport.jsonl"
SIZES = {"4 KiB": 4 << 10, "64 KiB": 64 << 10, "256 KiB": 256 << 10, "1 MiB": 1 << 20}
MORE_SIZES = {"4 MiB": 4 << 20, "16 MiB": 16 << 20}
BYTES_PER_STREAM = 256 << 20
KINDS = ("shared memory", "tcp")


@dataclass
class Figures:
    """What was measured of one kind and size, one value per round."""

    memcpy_gigabytes: list[float] = field(default_factory=list)
    single_gigabytes: list[float] = field(default_factory=list)
    stream_gigabytes: list[float] = field(default_factory=list)
    copied_gigabytes: list[float] = field(default_factory=list)
    one_way_microseconds: list[float] = field(default_factory=list)
    one_way_worst_microseconds: list[float] = field(default_factory=list)
    round_trip_microseconds: list[float] = field(default_factory=list)
    reserved_round_trip_microseconds: list[float] = field(default_factory=list)

    def share(self, values: list[float]) -> float:
        """Of memcpy, median of the rounds, each compared within itself."""
        ratios = [v / m for v, m in zip(values, self.memcpy_gigabytes, strict=True)]
        return statistics.median(ratios)


def memcpy_gigabytes(size: int) -> float:
    """Median speed of copying `size` bytes between the same two buffers."""
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    times = []
    for _ in range(max(50, min(2000, (64 << 20) // size))):
        start = time.perf_counter_ns()
        np.copyto(target, source)
        times.append(time.perf_counter_ns() - start)
    return size / statistics.median(times)


def one_way(channel: Channel, size: int, count: int) -> list[float]:
    """Nanoseconds of single messages; the receiver answers with what it took."""
    array = np.ones(size, np.uint8)
    taken = []
    for _ in range(count):
        channel.send(Message("single", {"sent": time.monotonic_ns()}, {"x": array}))
        nanoseconds = channel.receive(30).fields["taken"]
        assert isinstance(nanoseconds, int)
        taken.append(float(nanoseconds))
    return taken[count // 10 :]


def round_trip(channel: Channel, size: int, count: int, *, is_reserved: bool) -> float:
    """Median microseconds of an array there and one back."""
    array = np.ones(size, np.uint8)
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        send_array(channel, "reserved back" if is_reserved else "back", array, is_reserved)
        channel.receive(30)
        times.append((time.perf_counter_ns() - start) / 1e3)
    return statistics.median(times[count // 10 :])


def send_array(channel: Channel, kind: str, array: Array, is_reserved: bool) -> None:
    """Send a copy of an array, or memory of its size that was reserved."""
    if is_reserved:
        wanted = {"x": TypedShape(array.dtype, array.shape)}
        channel.send(Message(kind, {}, channel.reserve(wanted)))
    else:
        channel.send(Message(kind, {}, {"x": array}))


def stream(channel: Channel, size: int, count: int, *, copies: bool) -> float:
    """Gigabytes per second of `count` messages behind each other."""
    array = np.ones(size, np.uint8)
    channel.send(Message("copy" if copies else "take", {"count": count, "size": size}))
    channel.receive(30)
    start = time.perf_counter_ns()
    for _ in range(count):
        channel.send(Message("part", {}, {"x": array}))
    channel.receive(60)
    return size * count / (time.perf_counter_ns() - start)


def serve(channel: Channel) -> None:
    """The receiving process: do as the messages say until the other side closes."""
    own = np.ones(0, np.uint8)
    with contextlib.suppress(ChannelClosed):
        while True:
            message = channel.receive()
            now = time.monotonic_ns()
            if message.kind == "single":
                sent = message.fields["sent"]
                assert isinstance(sent, int)
                del message
                channel.send(Message("taken", {"taken": now - sent}))
                continue
            if message.kind in ("back", "reserved back"):
                size = message.arrays["x"].size
                if size != own.size:
                    own = np.ones(size, np.uint8)
                is_reserved = message.kind == "reserved back"
                del message
                send_array(channel, "there", own, is_reserved)
                continue
            take_stream(channel, message)


def take_stream(channel: Channel, order: Message) -> None:
    """Receive as many messages as were announced."""
    count, size = order.fields["count"], order.fields["size"]
    assert isinstance(count, int)
    assert isinstance(size, int)
    own = np.zeros(size, np.uint8)
    channel.send(Message("ready"))
    for _ in range(count):
        array = channel.receive(30).arrays["x"]
        if order.kind == "copy":
            np.copyto(own, array)
        del array
    channel.send(Message("done"))


def run_child(arguments: argparse.Namespace) -> None:
    """The other process of the pair."""
    pin(1)
    conditions = Conditions(Identity("receiver"))
    channel: Channel
    if arguments.child == "tcp":
        secret = SharedSecret(sys.stdin.readline().strip())
        address = Address("127.0.0.1", arguments.port)
        channel = connect_tcp(address, secret, conditions)
    else:
        channel = open_local(arguments.descriptor, conditions)
    with contextlib.closing(channel):
        serve(channel)


@contextlib.contextmanager
def pair(kind: str) -> Iterator[Channel]:
    """A channel to a process of its own."""
    conditions = Conditions(Identity("sender"))
    command = [sys.executable, "-m", "benchmarks.transport", "--child"]
    if kind == "tcp":
        secret = make_secret()
        listener = listen_tcp(Address("127.0.0.1", 0), secret, conditions)
        command += ["tcp", "--port", str(listener.port)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
        assert child.stdin is not None
        child.stdin.write(secret.text.encode() + b"\n")
        child.stdin.close()
        channel = listener.accept(30)
        listener.close()
    else:
        ours, theirs = local_sockets()
        command += ["local", "--descriptor", str(theirs.fileno())]
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        channel = open_local(ours, conditions)
    try:
        yield channel
    finally:
        channel.close()
        child.wait(30)


def socket_one_way() -> float:
    """Microseconds one way of one byte over a bare Unix socket between two processes: the floor."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        pin(1)
        ours.close()
        while data := theirs.recv(64):
            theirs.send(str(time.monotonic_ns() - int(data)).encode())
        os._exit(0)
    theirs.close()
    everywhere = os.sched_getaffinity(0)
    pin(0)
    times = []
    for _ in range(2000):
        ours.send(str(time.monotonic_ns()).encode())
        times.append(int(ours.recv(64)) / 1e3)
    ours.close()
    os.waitpid(child, 0)
    os.sched_setaffinity(0, everywhere)
    return statistics.median(times)


def pin(core: int) -> None:
    """Stay on one core, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core]})


def measure(rounds: int, sizes: dict[str, int]) -> dict[str, dict[str, Figures]]:
    """All figures: kind -> size -> values, the kinds in turns."""
    found = {kind: {name: Figures() for name in sizes} for kind in KINDS}
    with contextlib.ExitStack() as stack:
        channels = {kind: stack.enter_context(pair(kind)) for kind in KINDS}
        # Not before: children inherit where their parent may run.
        pin(0)
        for _ in range(rounds):
            for name, size in sizes.items():
                for kind, channel in channels.items():
                    one_round(channel, size, found[kind][name])
    return found


def one_round(channel: Channel, size: int, figures: Figures) -> None:
    """Measure everything once."""
    count = max(16, min(2000, BYTES_PER_STREAM // size))
    figures.memcpy_gigabytes.append(memcpy_gigabytes(size))
    times = one_way(channel, size, min(count, 300))
    figures.single_gigabytes.append(size / statistics.median(times))
    figures.one_way_microseconds.append(statistics.median(times) / 1e3)
    figures.one_way_worst_microseconds.append(float(np.percentile(times, 99)) / 1e3)
    figures.stream_gigabytes.append(stream(channel, size, count, copies=False))
    trips = min(count, 200)
    figures.round_trip_microseconds.append(round_trip(channel, size, trips, is_reserved=False))
    figures.reserved_round_trip_microseconds.append(
        round_trip(channel, size, trips, is_reserved=True)
    )
    figures.copied_gigabytes.append(stream(channel, size, count, copies=True))


def show(found: dict[str, dict[str, Figures]], tell: Callable[[str], None] = print) -> None:
    """Print one table per kind."""
    middle = statistics.median
    for kind, by_size in found.items():
        tell(f"\n{kind}")
        tell(
            "     size   memcpy   one at a time     stream            stream, copied out"
            "   one way p50 / p99    round trip, reserved"
        )
        for name, f in by_size.items():
            tell(
                f"{name:>9} {middle(f.memcpy_gigabytes):6.1f} GB/s"
                f" {middle(f.single_gigabytes):6.2f} GB/s {f.share(f.single_gigabytes):4.0%}"
                f" {middle(f.stream_gigabytes):6.2f} GB/s {f.share(f.stream_gigabytes):4.0%}"
                f" {middle(f.copied_gigabytes):6.2f} GB/s {f.share(f.copied_gigabytes):4.0%}"
                f"   {middle(f.one_way_microseconds):7.1f} us"
                f" / {middle(f.one_way_worst_microseconds):7.1f} us"
                f" {middle(f.round_trip_microseconds):8.1f}"
                f" {middle(f.reserved_round_trip_microseconds):8.1f} us"
            )


def record(
    found: dict[str, dict[str, Figures]], floor: float, rounds: int, num_cores: int
) -> dict[str, object]:
    """One line of the history; `num_cores` that this process might use before it was pinned."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        **commit_facts(),
        "cores": num_cores,
        "rounds": rounds,
        "bare_socket_one_way_microseconds": round(floor, 2),
        "figures": {
            kind: {name: asdict(figures) for name, figures in by_size.items()}
            for kind, by_size in found.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="sizes up to 1 MiB only")
    parser.add_argument("--keep", action="store_true", help="add a line to benchmarks/history")
    parser.add_argument("--child", choices=("local", "tcp"), help=argparse.SUPPRESS)
    parser.add_argument("--descriptor", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(arguments)
        return
    num_cores = len(os.sched_getaffinity(0))
    floor = socket_one_way()
    sizes = SIZES if arguments.quick else {**SIZES, **MORE_SIZES}
    found = measure(arguments.rounds, sizes)
    print(f"{num_cores} cores, {arguments.rounds} rounds; bare Unix socket one way: {floor:.1f} us")
    show(found)
    if arguments.keep:
        append_record(HISTORY, record(found, floor, arguments.rounds, num_cores))


if __name__ == "__main__":
    main()
