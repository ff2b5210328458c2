"""Capture a graph in a process of its own, so that torch never comes into the one that serves.

torch holds hundreds of megabytes for as long as the process that imported it lives; a process that
will serve for weeks needs it for the seconds of one capture. Owns that process: what goes in, what
comes out, and what happens when nothing does. Called where a graph is captured because none is
kept; run as `python -m banyan.models.capturing`.
"""

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import IO, Any

from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.foundation.errors import BanyanError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaptureWork:
    """A function that imports torch and returns a graph, by name, and what it is called with.

    Attributes:
        module: imported only where the work is done.
        function: of that module.
        arguments: by name; plain data, since they go to another process.
    """

    module: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Graph:
        """Do it in this process, which imports torch."""
        capture: Callable[..., Graph] = getattr(import_module(self.module), self.function)
        return capture(**self.arguments)


def capture_apart(work: CaptureWork) -> Graph:
    """Capture in another process; in this one when torch is here already, or no other one works.

    Raises:
        BanyanError: what the capture raised, wherever it ran.
    """
    if "torch" in sys.modules:
        return work.run()
    # Stray prints of libraries go to standard error; standard output is the result alone.
    command = [sys.executable, "-P", "-m", "banyan.models.capturing"]
    try:
        done = subprocess.run(
            command, input=pickle.dumps(work), stdout=subprocess.PIPE, check=False
        )
    except OSError as error:
        return _captured_here(work, f"cannot be started: {error}")
    if done.returncode:
        return _captured_here(work, f"ended with code {done.returncode}")
    # From our own child over a pipe that nobody else can write to.
    result: str | BanyanError = pickle.loads(done.stdout)
    if isinstance(result, BanyanError):
        raise result
    return parse_graph(result)


def _captured_here(work: CaptureWork, why: str) -> Graph:
    _logger.warning(
        "the process that captures the graph %s; it is captured in this one, which keeps a few "
        "hundred megabytes more",
        why,
    )
    return work.run()


def _serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Do the work that comes in and give what comes of it."""
    work: CaptureWork = pickle.load(source)
    result: str | BanyanError
    try:
        result = print_graph(work.run())
    except BanyanError as error:
        result = error
    pickle.dump(result, target)


def main() -> None:
    """Run the process."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as target:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        with suppress(BrokenPipeError):  # whoever asked is gone
            _serve(sys.stdin.buffer, target)


if __name__ == "__main__":
    main()
