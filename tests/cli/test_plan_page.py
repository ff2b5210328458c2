"""The files that docs/planning.md shows are read and planned with as they stand there."""

import re
from pathlib import Path

import pytest

from banyan.cli.main import main
from tests.conftest import Checkpoint

PAGE = (Path(__file__).parents[2] / "docs" / "planning.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    found = re.search(rf"<!-- {name} of the example -->\n```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_of_the_page_is_planned(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("inventory", "prices"):
        (tmp_path / f"{name}.toml").write_text(block(name), encoding="utf-8")
    files = ["--devices", f"{tmp_path}/inventory.toml", "--prices", f"{tmp_path}/prices.toml"]
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(checkpoint("llama")), *files, "--goal", "tpot=50ms,ttft=2s"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "USD for a million tokens" in said
    assert "Described, not measured: h200, epyc, chip" in said
