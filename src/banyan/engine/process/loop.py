"""The engine process: one model, one loop, one socket.

Owns the loop that interleaves commands and engine steps, so that a step never waits for a
command and a command waits for at most one step. Started by `launcher` as
`python -m banyan.engine.process.loop ENDPOINT`; never imports a web framework.

The process ends when it is told to, when its standard input closes (its parent died), or when
the engine fails; it never answers wrongly after a failure, because its parent starts a new one.
"""

import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import msgspec
import zmq

from banyan.engine.process.adapter_desk import AdapterDesk
from banyan.engine.process.building import SayProgress, Served, build
from banyan.engine.process.messages import (
    AddRequest,
    CancelRequest,
    Command,
    Done,
    EngineSettings,
    Failed,
    LoadAdapter,
    Loading,
    Pool,
    Pooled,
    Prepare,
    Published,
    Ready,
    Report,
    Start,
    Stop,
    Transcribe,
    Transcribed,
    UnloadAdapter,
    decode_command,
    encode,
    refused,
)
from banyan.engine.process.preparation import Preparation
from banyan.engine.process.status import AdapterFacts
from banyan.foundation.errors import BanyanError, InputError, StageFailed

_logger = logging.getLogger("banyan.engine")

# An idle engine looks this often whether an adapter has been read.
_READING_MILLISECONDS = 10

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_BROKEN = 70


Builder = Callable[[EngineSettings, SayProgress], Served]


class EngineLoop:
    """Takes commands from a socket, runs steps, publishes results."""

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        *,
        served: Served,
        heartbeat_seconds: float,
        parent_fd: int,
    ) -> None:
        self._socket = socket
        self._engine = served.engine
        self._pooling = served.pooling
        self._desk = AdapterDesk(served.adapters)
        self._speech = served.speech
        self._busy_seconds = served.busy_seconds
        self._heartbeat_milliseconds = max(1, int(heartbeat_seconds * 1000))
        self._parent_fd = parent_fd
        self._poller = zmq.Poller()
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(parent_fd, zmq.POLLIN)

    def run(self) -> None:
        """Serve until told to stop or until the parent is gone.

        Raises whatever a step raises: the state is unknown then.
        """
        while True:
            queues = (self._engine, self._pooling, self._speech)
            busy = any(queue.has_work() for queue in queues)
            patience = _READING_MILLISECONDS if self._desk.is_busy else self._heartbeat_milliseconds
            ready = dict(self._poller.poll(0 if busy else patience))
            if self._parent_fd in ready:
                return
            if self._socket in ready and not self._obey_all():
                return
            for read in self._desk.take_read():
                self._change(read.command.request_id, partial(self._desk.finish, read))
            for pooled in self._pooling.step():
                self._send(Pooled(pooled.request_id, pooled.rows))
            for request_id, transcript in self._speech.step():
                self._send(Transcribed(request_id, transcript))
            events = self._engine.step()
            for queue in queues:
                for refusal in queue.take_refusals():
                    self._send(refused(refusal.request_id, refusal.error))
            statistics, busy_seconds = self._engine.statistics(), self._busy_seconds()
            self._send(Published(tuple(events), statistics, busy_seconds))

    def _obey_all(self) -> bool:
        """Handle every waiting command; False when one of them was `Stop`."""
        while True:
            try:
                payload = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return True
            try:
                command = decode_command(payload)
            except msgspec.DecodeError as error:
                _logger.warning("ignored a command of %d bytes: %s", len(payload), error)
                continue
            if isinstance(command, Stop):
                return False
            self._obey(command)

    def _obey(self, command: Command) -> None:
        match command:
            case AddRequest(request_id, prompt, options, context, told, media):
                self._answer(
                    request_id,
                    lambda: self._engine.add_request(
                        request_id, prompt, options, context, told, media
                    ),
                )
            case CancelRequest(request_id):
                self._engine.cancel(request_id)
                self._pooling.cancel(request_id)
                self._speech.cancel(request_id)
            case Pool(request_id, prompts):
                self._answer(request_id, lambda: self._pooling.add_request(request_id, prompts))
            case LoadAdapter(request_id):
                self._answer(request_id, lambda: self._desk.load(command))
            case UnloadAdapter(request_id):
                self._change(request_id, lambda: self._desk.unload(command))
            case Transcribe(request_id, sound, speech_options):
                self._answer(
                    request_id,
                    lambda: self._speech.add_request(request_id, sound, speech_options),
                )
            case _:
                _logger.warning("ignored the command %s", type(command).__name__)

    def _change(self, request_id: str, work: Callable[[], tuple[AdapterFacts, ...]]) -> None:
        """Change which adapters are loaded, and tell which they are."""
        self._answer(request_id, lambda: self._send(Done(request_id, work())))

    def _answer(self, request_id: str, work: Callable[[], None]) -> None:
        """Do `work`; a failure is the answer to this request and touches no other."""
        try:
            work()
        except BanyanError as error:
            self._send(refused(request_id, error))
        except Exception as error:  # no request may end the others
            _logger.exception("request %s failed", request_id)
            self._send(refused(request_id, error))

    def _send(self, report: Report) -> None:
        self._socket.send(encode(report))


def _wait_for_command(socket: "zmq.Socket[bytes]", parent_fd: int) -> bool:
    """Wait for a command; False when the parent went away instead."""
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(parent_fd, zmq.POLLIN)
    return parent_fd not in dict(poller.poll())


def _stand_by(
    socket: "zmq.Socket[bytes]", parent_fd: int, prepare: Callable[[EngineSettings], None]
) -> Start | None:
    """Wait for the order to start; None when the parent went away or needs this process no more."""
    while _wait_for_command(socket, parent_fd):
        command = decode_command(socket.recv())
        match command:
            case Prepare(settings):
                prepare(settings)
            case Start():
                return command
            case Stop():
                return None
            case _:
                raise InputError(
                    f"the first command was {type(command).__name__}; it must be Start"
                )
    return None


def serve(
    endpoint: str,
    *,
    parent_fd: int,
    builder: Builder,
    prepare: Callable[[EngineSettings], None] = lambda _: None,
) -> int:
    """Run an engine process against the socket at `endpoint` and return its exit code.

    Args:
        endpoint: where the parent listens.
        parent_fd: closes when the parent dies.
        builder: loads the model.
        prepare: what can be done for a model before it is to be served.
    """
    context = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    # Events must never be dropped; their number is bounded by the running requests.
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.LINGER, 1000)
    socket.connect(endpoint)
    try:
        start = _stand_by(socket, parent_fd, prepare)
        if start is None:
            return EXIT_OK
        served = builder(start.settings, lambda *progress: socket.send(encode(Loading(*progress))))
        socket.send(encode(Ready(served.model)))
        with closing(served):
            EngineLoop(
                socket,
                served=served,
                heartbeat_seconds=start.settings.heartbeat_seconds,
                parent_fd=parent_fd,
            ).run()
    except BanyanError as error:
        failed = Failed(str(error), isinstance(error, InputError))
        if isinstance(error, StageFailed):
            failed = msgspec.structs.replace(failed, place=error.place, is_silent=error.is_silent)
        socket.send(encode(failed))
        return EXIT_REFUSED
    except Exception as error:  # the last thing this process does is to say why it ends
        _logger.exception("the engine failed")
        message = f"the engine failed ({type(error).__name__}: {error})"
        socket.send(encode(Failed(message, is_input=False)))
        return EXIT_BROKEN
    finally:
        socket.close()
        context.term()
    return EXIT_OK


def _build_prepared(preparation: Preparation, settings: EngineSettings, say: SayProgress) -> Served:
    try:
        return build(settings, say, preparation.waiting)
    finally:
        preparation.close()


def _leave_to_parent(signal_number: int, frame: object) -> None:
    """Take a signal that the parent obeys."""


def main(arguments: Sequence[str]) -> int:
    """Run the process: `ENDPOINT` is its only argument."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # A service manager signals all processes of a server at once. The parent obeys and drains its
    # streams; this process ends when the parent closes our input. Not SIG_IGN: a compiler that
    # we start would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave_to_parent)
    endpoint, preparation = arguments[0], Preparation()
    try:
        return serve(
            endpoint,
            parent_fd=sys.stdin.fileno(),
            builder=partial(_build_prepared, preparation),
            prepare=preparation.get_ready,
        )
    finally:
        preparation.close()
        # A parent that was killed left its folder; a living one finds nothing to remove.
        socket_file = Path(endpoint.removeprefix("ipc://"))
        with suppress(OSError):
            socket_file.unlink()
            socket_file.parent.rmdir()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
