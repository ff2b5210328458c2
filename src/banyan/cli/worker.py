"""`banyan worker`: lend a device of this machine to an engine on another host."""

from functools import partial
from pathlib import Path

from banyan.distributed.greeting import Identity
from banyan.distributed.listener import Listener
from banyan.distributed.opening import Conditions
from banyan.distributed.secret import make_secret, read_secret
from banyan.distributed.tcp import Address, listen_tcp
from banyan.engine.stages.remote_part import serve_part
from banyan.engine.starting.stage_worker import open_ordered
from banyan.engine.starting.staging import WORKER_TIMING
from banyan.foundation.errors import ChannelClosed, ChannelError, InputError
from banyan.foundation.settings import Settings


def open_listener(listen: str, secret: Path, device: str) -> Listener:
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
    conditions = Conditions(Identity(f"the worker of {device}"), WORKER_TIMING)
    return listen_tcp(Address(host.strip("[]"), int(port)), read_secret(secret), conditions)


def serve_engines(listener: Listener, device: str, settings: Settings) -> None:
    """Work for one engine after the other, until the listener is closed."""
    while True:
        try:
            channel = listener.accept()
        except ChannelClosed:
            return
        try:
            serve_part(channel, partial(open_ordered, settings, device))
        except ChannelError:
            # That engine is gone; the next may come.
            continue
        finally:
            channel.close()


def _write_secret(path: Path) -> None:
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(make_secret().text + "\n")
    except OSError as error:
        raise InputError(f"a secret cannot be written to {path}: {error}") from error
