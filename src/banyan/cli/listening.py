"""The socket a server listens on, and the address under which clients find it."""

import os
import socket
from contextlib import suppress

from banyan.foundation.errors import EnvironmentProblem

# A reader that takes nothing, or is gone without a word, is given up after so long.
_DEAD_READER_SECONDS = 120


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket; raises `EnvironmentProblem` when that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        # The standard library adds the address to the system's words; a wrong host has others.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error.strerror or error)
        raise EnvironmentProblem(
            f"cannot listen on {host}:{port} ({reason}); choose another with --port, "
            "or --port 0 for a free one"
        ) from error
    # Connections inherit it. The system then ends one whose reader acknowledges nothing for so
    # long, also when its window is closed, and the gateway sees the reader hang up.
    with suppress(OSError, AttributeError):
        listener.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_READER_SECONDS * 1000
        )
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the address a client uses; a server on all interfaces is reached by loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
