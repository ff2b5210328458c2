import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from banyan.devices.probing.command import run_command


def python(program: str) -> list[str]:
    """A command that runs a program."""
    return [sys.executable, "-c", program]


def test_a_command_gives_what_it_prints_and_not_its_complaints() -> None:
    program = "import sys; print(3); print('deprecated', file=sys.stderr)"
    assert run_command(python(program)) == "3\n"


def test_a_command_speaks_plain_english_and_waits_for_no_input() -> None:
    program = "import os, sys; print(os.environ['LC_ALL'], repr(sys.stdin.read()))"
    assert run_command(python(program)) == "C ''\n"


def test_bytes_that_are_no_text_are_replaced() -> None:
    program = "import sys; sys.stdout.buffer.write(b'a\\xff')"
    assert run_command(python(program)) == "a\N{REPLACEMENT CHARACTER}"


def test_a_file_that_a_command_writes_is_read_and_not_left_behind(tmp_path: Path) -> None:
    program = "import os; open('info.json', 'w').write(os.getcwd())"
    folder = run_command(python(program), writes="info.json")
    assert not Path(folder).exists()


def test_a_command_that_does_not_write_its_file_is_not_taken_for_a_missing_one() -> None:
    with pytest.raises(OSError, match=r"it did not write info\.json") as caught:
        run_command(python("pass"), writes="info.json")
    assert not isinstance(caught.value, FileNotFoundError)


def test_a_command_that_fails_gives_its_status_and_its_words() -> None:
    program = "import sys; print('driver lost', file=sys.stderr); raise SystemExit(9)"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_command(python(program))
    assert caught.value.returncode == 9
    assert caught.value.output == "driver lost\n"


def test_a_command_that_is_not_installed_is_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError):
        run_command(["no-such-command-of-any-vendor"])


def test_a_command_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    note = tmp_path / "child"
    # A shell starts in moments, also where the machine is busy.
    with pytest.raises(subprocess.TimeoutExpired):
        run_command(["sh", "-c", f"sleep 600 & echo $! > '{note}'; wait"], seconds=1.0)
    child = int(note.read_text())
    until = time.monotonic() + 60
    while is_running(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(child)


def is_running(process: int) -> bool:
    """Is it there, and not only waiting to be buried?"""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return False
    return state[0] != "Z" and os.path.exists(f"/proc/{process}")  # noqa: PTH110
