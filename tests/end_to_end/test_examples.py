"""Every example runs, as its reader would run it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import Checkpoint
from tests.end_to_end.servers import Server

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
TRIED = {
    "generate.py",
    "ask_a_server.py",
    "compile_a_module.py",
    "search_texts.py",
    "run_the_toy_chip.py",
    "toy_target.py",
}
MOST_LINES_OF_A_TOY = 150


def run(name: str, *arguments: str, environment: Mapping[str, str]) -> str:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_every_example_is_tried_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == TRIED


def test_text_is_generated(checkpoint: Checkpoint, program_cache: dict[str, str]) -> None:
    said = run("generate.py", str(checkpoint("llama")), environment=program_cache)
    assert said.count("24 tokens") == 2


def test_a_server_is_asked(fake_server: Server) -> None:
    said = run("ask_a_server.py", fake_server.url, environment={})
    assert said.startswith(f"fake at {fake_server.url}\n")
    assert "64 tokens in" in said


def test_a_module_is_compiled(program_cache: dict[str, str]) -> None:
    said = run("compile_a_module.py", environment=program_cache)
    assert "100.0 % of the compute nodes in our kernels" in said


def test_texts_are_searched(checkpoint: Checkpoint, program_cache: dict[str, str]) -> None:
    said = run("search_texts.py", str(checkpoint("bert")), environment=program_cache)
    assert len(said.splitlines()) == 3


def test_a_layer_runs_on_the_toy_chip(program_cache: dict[str, str]) -> None:
    said = run("run_the_toy_chip.py", environment=program_cache)
    assert said.count("largest difference from PyTorch") == 2


def test_the_toy_chip_is_as_short_as_the_documentation_says() -> None:
    lines = (EXAMPLES / "toy_target.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < MOST_LINES_OF_A_TOY
