import io
from pathlib import Path

import pytest
from rich.console import Console

from banyan.cli.tune import print_findings
from banyan.compiler.schedules.evidence import Finding, Timing
from banyan.compiler.schedules.known import open_evidence
from banyan.compiler.tiling.options import LinearBlock, LinearShape
from banyan.compiler.tuner.search import linear_shapes
from banyan.devices.profile import save_profile
from banyan.engine.starting.compiling import model_graph
from banyan.engine.workbench.tuning import tune_model
from banyan.foundation.settings import Settings
from banyan.models.loading import open_model
from tests.conftest import Checkpoint
from tests.end_to_end.test_real_server import some_profile


def test_only_layers_without_evidence_are_searched_and_what_is_found_is_kept(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("banyan.compiler.tuner.search.BEST_TIMED", 2)
    model, settings = str(checkpoint("llama")), Settings(cache_directory=tmp_path)
    save_profile(some_profile(), tmp_path)
    shapes = linear_shapes(model_graph(open_model(model, offline=True), "float32", settings))
    assert len(shapes) > 2
    evidence = open_evidence(tmp_path)
    evidence.keep([Finding(shape, LinearBlock(64, 4), (), "2026-01-01") for shape in shapes[1:]])

    def tuned() -> list[Finding]:
        return tune_model(
            model,
            dtype="float32",
            fresh=False,
            settings=settings,
            measured_on="2026-01-02",
            progress=lambda *call: None,
        )

    (finding,) = tuned()
    assert finding.shape == shapes[0]
    assert 2 <= len(finding.timings) <= 3
    assert dict(evidence.blocks())[shapes[0]] == finding.block
    assert tuned() == []


def test_findings_are_printed_with_the_best_and_the_slowest_time() -> None:
    fast, slow = LinearBlock(64, 4), LinearBlock(16, 1)
    timings = (
        Timing(fast, ((1, 1e-5), (512, 2e-3))),
        Timing(slow, ((1, 3e-5), (512, 4e-3))),
    )
    written = io.StringIO()
    console = Console(file=written, width=100)
    print_findings(console, [Finding(LinearShape(64, 96, "bf16"), fast, timings, "2026-01-01")])
    first, second = written.getvalue().splitlines()[1:]
    assert first.split() == ["64", "x", "96", "bf16", "64", "4", "1", "10.0", "us", "30.0", "us"]
    assert second.split() == ["512", "2000.0", "us", "4000.0", "us"]


def test_nothing_left_to_tune_is_said() -> None:
    written = io.StringIO()
    print_findings(Console(file=written), [])
    assert "tuned before" in written.getvalue()
