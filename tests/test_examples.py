"""The examples that need no server run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
MOST_LINES_OF_A_TOY = 150


@pytest.mark.parametrize("name", ["compile_a_module.py", "run_the_toy_chip.py"])
def test_an_example_runs_and_agrees_with_pytorch(name: str) -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert result.returncode == 0, result.stderr
    assert "largest difference from PyTorch" in result.stdout


def test_a_new_target_is_as_short_as_the_documentation_says() -> None:
    lines = (EXAMPLES / "toy_target.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < MOST_LINES_OF_A_TOY
