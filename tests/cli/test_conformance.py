import json
from pathlib import Path

import pytest

from banyan.cli import conformance
from banyan.cli.conformance import chosen_areas, run_conformance, source_version
from banyan.cli.main import main
from banyan.engine.workbench.conformance.checks import Check, ConformanceReport
from banyan.engine.workbench.conformance.matrix import BEGIN, END
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings

BROKEN = ConformanceReport(
    "opencl:0",
    "A [chip]",
    "opencl",
    (
        Check("memory", "64 bytes in and out", True, "0 of 64 values differ"),
        Check(
            "operators", "functions f32, n=3: exp 2", False, "differs by 2.00e-01, 1e-04 is allowed"
        ),
    ),
    "described",
)


def test_the_null_device_passes_what_it_can_be_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "matrix.md"
    page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    assert run_conformance("null", areas=(), page=page, as_json=False, settings=Settings(tmp_path))
    said = capsys.readouterr().out
    assert "Status: described" in said
    assert "left out decoder" in said
    assert "| `null` | counts, runs nothing | none |" in page.read_text(encoding="utf-8")


def test_a_failure_is_printed_with_its_numbers_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(conformance, "check_device", lambda *args, **options: BROKEN)
    with pytest.raises(SystemExit) as ended:
        main(["conformance", "opencl:0"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "failed operators: 0 of 1" in said
    assert "functions f32, n=3: exp 2: differs by 2.00e-01, 1e-04 is allowed" in said
    assert "A [chip]" in said


def test_json_holds_every_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(conformance, "check_device", lambda *args, **options: BROKEN)
    settings = Settings(tmp_path)
    assert not run_conformance("x", areas=(), page=None, as_json=True, settings=settings)
    values = json.loads(capsys.readouterr().out)
    assert values["status"] == "described"
    assert [check["passed"] for check in values["checks"]] == [True, False]


@pytest.mark.parametrize("text", [None, "a page without a table\n"])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, text: str | None
) -> None:
    page = tmp_path / "matrix.md"
    if text is not None:
        page.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"docs/support_matrix\.md"):
        run_conformance("cpu", areas=(), page=page, as_json=False, settings=Settings(tmp_path))


def test_areas_come_in_the_order_of_the_kit_and_unknown_ones_are_refused() -> None:
    assert chosen_areas(["decoder", "memory"]) == ("memory", "decoder")
    assert len(chosen_areas([])) == 7
    with pytest.raises(InputError, match="'speed' is not known; use memory, limits"):
        chosen_areas(["speed"])


def test_the_source_that_ran_has_a_name() -> None:
    assert source_version()
