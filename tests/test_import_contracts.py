"""The import contracts of pyproject.toml hold, and each fails when it is broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The smallest package that the contracts accept: every module that a contract names.
MODULES = (
    "cli/main",
    "gateway/app",
    "gateway/wire",
    "engine/process/loop",
    "engine/scheduling/scheduler",
    "models/decoder",
    "planner/plan",
    "models/tokenizer",
    "distributed/frames",
    "compiler/capture/trace",
    "compiler/compile",
    "compiler/ir/graph",
    "compiler/passes/fuse",
    "compiler/programs/attention",
    "compiler/tiling/rows",
    "devices/cpu",
    "client",
    "foundation/errors",
)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of the tree's pyproject.toml over the package in `folder`/src."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "200"}
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
            "--config",
            str(ROOT / "pyproject.toml"),
            "--no-cache",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    )


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """A package of empty modules in the layers' shape."""
    for name in MODULES:
        path = tmp_path / "src/banyan" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        for folder in path.parents:
            if folder.name == "src":
                break
            (folder / "__init__.py").touch()
    return tmp_path


def test_the_tree_keeps_every_contract() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


def test_the_empty_skeleton_keeps_every_contract(skeleton: Path) -> None:
    result = lint_imports(skeleton)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("devices/cpu", "import banyan.compiler.compile", "Layers"),
        ("foundation/errors", "import banyan.client", "Layers"),
        ("devices/cpu", "import banyan.client", "Layers"),
        ("common/words", "", "Layers"),
        ("compiler/ir/graph", "import banyan.compiler.passes.fuse", "No cycles"),
        ("engine/scheduling/scheduler", "import time", "Deciders are pure"),
        ("gateway/wire", "import fastapi", "Deciders are pure"),
        ("planner/plan", "import time", "Deciders are pure"),
        ("models/tokenizer", "import banyan.planner.plan", "Layers"),
        ("distributed/frames", "import banyan.models.tokenizer", "Layers"),
        ("compiler/passes/fuse", "import random", "Deciders are pure"),
        ("compiler/ir/graph", "import torch", "Deciders are pure"),
        ("compiler/tiling/rows", "import os", "Deciders are pure"),
        ("compiler/programs/attention", "import pathlib", "Deciders are pure"),
        ("models/tokenizer", "import torch", "Door: torch"),
        ("engine/process/loop", "def late():\n    import torch", "Door: torch"),
        ("engine/process/loop", "import uvicorn", "Door: the web framework"),
        ("gateway/app", "import zmq", "Door: zmq"),
        ("gateway/app", "import jinja2", "Door: jinja2"),
        ("distributed/frames", "import cryptography", "Door: cryptography"),
        ("cli/main", "import huggingface_hub", "Door: huggingface_hub"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    skeleton: Path, module: str, line: str, contract: str
) -> None:
    path = skeleton / "src/banyan" / f"{module}.py"
    path.parent.mkdir(exist_ok=True)
    (path.parent / "__init__.py").touch()
    path.write_text(f"{line}\n", encoding="utf-8")
    if contract == "No cycles":
        (skeleton / "src/banyan/compiler/passes/fuse.py").write_text("import banyan.compiler.ir\n")
    result = lint_imports(skeleton)
    assert result.returncode == 1, result.stdout + result.stderr
    broken = [text for text in result.stdout.splitlines() if text.endswith("BROKEN")]
    assert contract in " ".join(broken), result.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("models/decoder", "import torch"),
        ("compiler/capture/trace", "import torch"),
        ("gateway/app", "import fastapi"),
        ("cli/main", "import uvicorn"),
        ("engine/process/loop", "import zmq"),
    ],
)
def test_a_door_lets_its_library_in(skeleton: Path, module: str, line: str) -> None:
    (skeleton / "src/banyan" / f"{module}.py").write_text(f"{line}\n", encoding="utf-8")
    result = lint_imports(skeleton)
    assert result.returncode == 0, result.stdout + result.stderr
