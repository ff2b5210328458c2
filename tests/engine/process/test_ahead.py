"""Compiling for an engine that starts later."""

from contextlib import closing
from pathlib import Path

import pytest

from banyan.engine.options import EngineOptions
from banyan.engine.process.ahead import run
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


@pytest.mark.wide
@pytest.mark.end_to_end
def test_an_engine_finds_what_was_compiled_ahead(tmp_path: Path) -> None:
    assert run(settings_of(SEEDLING, tmp_path)) == 0
    compiled = programs_in(tmp_path)
    assert compiled
    with closing(load_under(SEEDLING, tmp_path, PLAN)):
        assert programs_in(tmp_path) == compiled
