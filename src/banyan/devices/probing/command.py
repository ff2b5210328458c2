"""Runs a vendor's command: in plain English, for a bounded time, whatever becomes of it."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

COMMAND_SECONDS = 20.0
_FAREWELL_SECONDS = 1.0


class RunCommand(Protocol):
    """Runs a command and gives what it printed, or the file that it wrote.

    Raises OSError when it cannot be started, `subprocess.TimeoutExpired` when it takes too long,
    `subprocess.CalledProcessError` when it says that it failed.
    """

    def __call__(self, command: Sequence[str], writes: str | None = None) -> str:
        """Run it; `writes` names a file that it leaves where it is started."""
        ...


def run_command(
    command: Sequence[str], writes: str | None = None, seconds: float = COMMAND_SECONDS
) -> str:
    """Run a command in an empty folder for at most `seconds` and give what it printed.

    The locale is "C", so that a translated tool prints the words and the decimal point that its
    parser knows. A command that does not end is killed with all that it started. One that the
    kernel holds inside a hung driver cannot be killed; it is left behind rather than waited for.

    Raises:
        OSError: the command cannot be started, or did not write the file.
        subprocess.TimeoutExpired: it did not end in time.
        subprocess.CalledProcessError: its exit status is not 0.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C", "LANG": "C", "LANGUAGE": "C"},
            cwd=folder,
            start_new_session=True,
        )
        try:
            printed, complaints = process.communicate(timeout=seconds)
        except BaseException:
            _end(process)
            raise
        text = printed.decode("utf-8", errors="replace")
        if process.returncode != 0:
            said = text + complaints.decode("utf-8", errors="replace")
            raise subprocess.CalledProcessError(process.returncode, list(command), said)
        if writes is None:
            return text
        try:
            return (Path(folder) / writes).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            # Not to be taken for a command that is not installed.
            raise OSError(f"it did not write {writes}") from None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process and its children; give up on one that cannot die."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_FAREWELL_SECONDS)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
