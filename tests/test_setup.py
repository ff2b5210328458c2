"""Setting up says in one sentence what is missing."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A Python that is new enough, makes an environment, and whose pip always fails.
FAILING_PYTHON = """#!/bin/bash
case "$1 $2" in
  "-c "*) exit 0 ;;
  "--version ") echo "Python 3.99" ;;
  "-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip") [ "$3" = --version ] || echo "Collecting a-package>=1"; echo "no network"; exit 1 ;;
esac
"""


def install(python: Path | str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the installer in an empty folder with this Python."""
    return subprocess.run(
        [str(ROOT / "tools/install.sh"), "dev"],
        cwd=folder,
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("python", ["false", "no-such-python"])
def test_a_python_that_is_too_old_or_absent_is_named(python: str, tmp_path: Path) -> None:
    result = install(python, tmp_path)
    assert result.returncode == 1
    assert f"Banyan needs Python 3.11 or newer; '{python}' is not" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_failed_installation_shows_the_end_of_its_log(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(FAILING_PYTHON, encoding="utf-8")
    python.chmod(0o755)
    result = install(python, tmp_path)
    assert result.returncode == 1
    assert "package 1: a-package" in result.stdout
    assert "no network" in result.stderr
    assert "the whole log is in .venv/install.log" in result.stderr


def test_make_alone_lists_the_targets() -> None:
    result = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "serve", "test", "bench", "lint", "types", "docs", "clean", "help"):
        assert f"make {target} " in result.stdout
