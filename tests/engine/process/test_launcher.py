import asyncio
import sys
import tempfile
import time
from pathlib import Path

import pytest

from banyan.engine.process.launcher import describe_exit, launch
from banyan.foundation.errors import EnvironmentProblem


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, for this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (3, "the engine process ended with exit code 3"),
        (-9, "the engine process was killed by signal 9 (SIGKILL)"),
        (-99, "the engine process was killed by signal 99 (unknown)"),
    ],
)
def test_an_exit_is_described_by_its_code_or_signal(code: int, sentence: str) -> None:
    assert describe_exit(code) == sentence


def test_a_process_that_cannot_be_started_leaves_no_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(folder / "nothing"))
    with pytest.raises(FileNotFoundError):
        asyncio.run(launch())
    assert list(folder.iterdir()) == []


def test_a_path_too_long_for_a_socket_is_refused_with_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = folder / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(EnvironmentProblem, match="set TMPDIR to a folder with a short path"):
        asyncio.run(launch())
    assert list(deep.iterdir()) == []


def test_a_killed_process_takes_its_children_along(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = folder / "child"
    script = folder / "engine.sh"
    script.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {note}.new; mv {note}.new {note}; wait\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))

    async def start_and_kill() -> int:
        process = await launch()
        while not note.exists():
            await asyncio.sleep(0.01)
        process.kill()
        await process.close()
        return int(note.read_text())

    child = asyncio.run(asyncio.wait_for(start_and_kill(), 20))
    deadline = time.monotonic() + 60
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child)
