"""Worker processes of this host: started, perhaps ahead of time, and told later whom they serve.

An interpreter that imports NumPy and the compiler takes most of a second, which nobody has while
requests wait. So a worker waits, imported, until it hears who its neighbours are, over the socket
that becomes its channel to the engine.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from banyan.distributed.local import local_sockets
from banyan.engine.starting.stopped import StopWatch
from banyan.foundation.errors import DamagedMessage, PeerLost

_STOP_SECONDS = 5.0
_LENGTH = struct.Struct("<I")
_MOST_NEIGHBOURS = 250
"""Descriptors that one message may carry, by the kernel's limit of 253."""


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker that waits for `employ`, or works.

    Attributes:
        process: of the operating system.
        end: of its socket; whoever opens a channel over it closes it.
        stops: kills it when somebody stops it, for it would hold up whoever waits for it.
    """

    process: "subprocess.Popen[bytes]"
    end: socket.socket
    stops: StopWatch

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended; asked, it may be buried, and its number be another's."""
        if self.process.poll() is None:
            return True
        self.stops.forget(self.process.pid)
        return False

    def employ(self, neighbours: Mapping[str, socket.socket]) -> None:
        """Tell it which neighbours it has on this host; it gets copies of these sockets.

        Raises:
            PeerLost: it is gone.
        """
        names = msgspec.json.encode(list(neighbours))
        try:
            socket.send_fds(
                self.end,
                [_LENGTH.pack(len(names)) + names],
                [end.fileno() for end in neighbours.values()],
            )
        except OSError as error:
            raise PeerLost(f"The worker process ended while it waited: {error}.") from error

    def see_off(self, answers: bool) -> None:
        """Wait for its end; one that was stopped or hangs is killed, for requests wait meanwhile.

        Args:
            answers: whether it still did, so that it ends by itself.
        """
        self.stops.forget(self.process.pid)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_SECONDS if answers else 0)
        self.kill()

    def kill(self) -> None:
        """End it at once, with whatever compiles for it."""
        self.stops.forget(self.process.pid)
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class WaitingWorkers:
    """Workers by the place of a plan that they were started for."""

    def __init__(self) -> None:
        self._waiting: dict[str, WorkerProcess] = {}
        self._stops = StopWatch()

    def start(self, places: Iterable[str]) -> None:
        """Start those that are not there yet, ahead of time."""
        for place in places:
            if place not in self._waiting:
                self._waiting[place] = start_worker(place, self._stops)

    def take(self, place: str) -> WorkerProcess:
        """The worker of a place: one that waits, else a new one."""
        waiting = self._waiting.pop(place, None)
        if waiting is not None and waiting.is_alive:
            return waiting
        if waiting is not None:
            waiting.end.close()
        return start_worker(place, self._stops)

    def close(self) -> None:
        """End those that nobody took."""
        for worker in self._waiting.values():
            worker.end.close()
            worker.kill()
        self._waiting = {}


def start_worker(place: str, stops: StopWatch) -> WorkerProcess:
    """Start a process that will compute a part.

    Raises:
        OSError: the operating system starts no process.
    """
    ours, theirs = local_sockets()
    with theirs:
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "banyan.engine.starting.stage_worker",
                    str(theirs.fileno()),
                    place,
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                # A Ctrl-C in the terminal is for the one who serves, who ends its workers. A
                # session of its own would do, too, but Linux shares cores between sessions, and a
                # worker that waits could not give its core to one that computes.
                process_group=0,
            )
        except BaseException:
            ours.close()
            raise
    stops.watch(process.pid)
    return WorkerProcess(process, ours, stops)


def wait_for_employment(end: socket.socket) -> dict[str, int] | None:
    """What a worker that waits is told: neighbour -> descriptor of a socket to it.

    Args:
        end: the worker's end of its socket.

    Returns:
        None: whoever started the worker needs it no more.

    Raises:
        DamagedMessage: what came was cut short.
    """
    head, descriptors, _, _ = socket.recv_fds(end, _LENGTH.size, _MOST_NEIGHBOURS)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head)
    names = end.recv(length, socket.MSG_WAITALL)
    if len(names) != length:
        raise DamagedMessage("What a worker was told when it was employed is cut short.")
    return dict(zip(msgspec.json.decode(names, type=list[str]), descriptors, strict=True))
