"""Compiling for an engine that starts later."""

import asyncio
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from banyan.engine.options import EngineOptions
from banyan.engine.process.ahead import compile_ahead, run
from banyan.engine.process.messages import EngineSettings
from banyan.planner.plan import Stage
from tests.engine.stages.plans import load_under, plan_text

SEEDLING = Path(__file__).parent.parent.parent.parent / "models" / "seedling"
PLAN = plan_text(Stage(0, 3, ("cpu",)), Stage(3, 6, ("cpu#1",)))


def settings_of(model: Path, cache: Path) -> EngineSettings:
    options = EngineOptions(plan=PLAN, dtype="float32", threads=1)
    return EngineSettings(model=str(model), options=options, cache_directory=str(cache))


def programs_in(cache: Path) -> set[Path]:
    return {path.relative_to(cache) for path in cache.rglob("*.so")}


def test_what_cannot_be_compiled_is_said_and_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(settings_of(tmp_path / "nothing", tmp_path)) == 1
    assert "is not compiled ahead of time" in caplog.text


def test_a_process_that_compiles_ends_with_its_parent(tmp_path: Path) -> None:
    forever = (
        "import sys, time; from banyan.engine.process import ahead; "
        "ahead.run = lambda settings: print('begun', flush=True) or time.sleep(600); "
        "sys.exit(ahead.main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", forever],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    order = msgspec.msgpack.encode(settings_of(tmp_path, tmp_path))
    process.stdin.write(struct.pack("<I", len(order)) + order)
    process.stdin.flush()
    assert process.stdout.readline() == b"begun\n"
    process.stdin.close()
    assert process.wait(30) == -9
    process.stdout.close()


def test_one_that_is_killed_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(ChildProcessError, match="was killed by signal 9"):
        asyncio.run(compile_ahead(settings_of(tmp_path, tmp_path)))


@pytest.mark.wide
@pytest.mark.end_to_end
def test_an_engine_finds_what_was_compiled_ahead(tmp_path: Path) -> None:
    assert run(settings_of(SEEDLING, tmp_path)) == 0
    compiled = programs_in(tmp_path)
    assert compiled
    with closing(load_under(SEEDLING, tmp_path, PLAN)):
        assert programs_in(tmp_path) == compiled
