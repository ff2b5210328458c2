import subprocess
import sys
from pathlib import Path

import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import ModelError
from banyan.models.capturing import CaptureWork, capture_apart
from banyan.models.loading import open_model
from banyan.models.step_graph import decoder_step_graph
from tests.conftest import Checkpoint

COLD_START = """
import sys
from pathlib import Path
from banyan.compiler.ir.text import print_graph
from banyan.models.configuration import read_configuration
from banyan.models.step_graph import decoder_step_graph
directory, cache = map(Path, sys.argv[1:])
graph = decoder_step_graph(read_configuration(directory), dtype="float32", cache_directory=cache)
assert "torch" not in sys.modules, "torch was imported"
print(print_graph(graph), end="")
"""


def small_graph(name: str) -> Graph:
    builder = Builder()
    node = builder.input("x", TensorType((4,), DType.FLOAT32))
    return Graph(name, (node,), (Output("y", builder.add("neg", [node])),))


SMALL = CaptureWork(__name__, "small_graph", {"name": "small"})


@pytest.fixture
def _without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process look like one that never imported torch."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def test_a_cold_start_captures_the_same_graph_and_imports_no_torch(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    directory = checkpoint("llama")
    done = subprocess.run(
        [sys.executable, "-c", COLD_START, str(directory), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    configuration = open_model(str(directory)).decoder_configuration()
    assert done.stdout == print_graph(decoder_step_graph(configuration, dtype="float32"))
    assert len(list((tmp_path / "graphs").iterdir())) == 1


def test_where_torch_is_already_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    monkeypatch.setattr("subprocess.run", None)
    assert capture_apart(SMALL).name == "small"


@pytest.mark.usefixtures("_without_torch")
def test_what_the_capture_refuses_is_refused_here_in_the_same_words() -> None:
    work = CaptureWork(
        "banyan.models.configuration", "read_configuration", {"directory": Path("/nowhere")}
    )
    with pytest.raises(ModelError) as told:
        work.run()
    with pytest.raises(ModelError) as found:
        capture_apart(work)
    assert str(found.value) == str(told.value)


@pytest.mark.usefixtures("_without_torch")
@pytest.mark.parametrize(
    ("executable", "why"),
    [("/bin/false", "ended with code 1"), ("/nowhere/python", "cannot be started")],
)
def test_a_process_that_gives_nothing_costs_a_warning_not_the_start(
    executable: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert capture_apart(SMALL).name == "small"
    assert why in caplog.text
