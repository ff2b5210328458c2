import errno
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType, TensorType
from banyan.models.configuration import ModelConfiguration, read_configuration
from banyan.models.graph_cache import cached_graph, graph_key
from tests.conftest import Checkpoint


class Capture:
    """Makes a small graph and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Graph:
        self.count += 1
        builder = Builder()
        node = builder.input("x", TensorType((4,), DType.FLOAT32))
        return Graph("small", (node,), (Output("y", builder.add("neg", [node])),))


def fail_disk_full(*_: object, **__: object) -> object:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_graph_is_captured_once_and_then_read(tmp_path: Path) -> None:
    capture = Capture()
    first = cached_graph("key", tmp_path, capture)
    second = cached_graph("key", tmp_path, capture)
    assert capture.count == 1
    assert print_graph(first) == print_graph(second)
    assert [path.name for path in (tmp_path / "graphs").iterdir()] == ["key.txt"]


def test_another_key_is_another_graph(tmp_path: Path) -> None:
    capture = Capture()
    cached_graph("one", tmp_path, capture)
    cached_graph("two", tmp_path, capture)
    assert capture.count == 2


def test_without_a_directory_nothing_is_kept() -> None:
    capture = Capture()
    cached_graph("key", None, capture)
    cached_graph("key", None, capture)
    assert capture.count == 2


@pytest.mark.parametrize("content", [b"", b"graph small {", b"\xff\xfe", b"nonsense"])
def test_a_damaged_entry_is_captured_anew_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    capture = Capture()
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "key.txt").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        cached_graph("key", tmp_path, capture)
    assert "cannot be used and is captured anew" in caplog.text
    cached_graph("key", tmp_path, capture)
    assert capture.count == 1


def test_a_full_disk_costs_a_warning_and_not_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", fail_disk_full)
    with caplog.at_level(logging.WARNING):
        graph = cached_graph("key", tmp_path, Capture())
    assert graph.name == "small"
    assert "is not kept, the next start captures again: [Errno 28]" in caplog.text


def test_a_failure_at_the_last_moment_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", fail_disk_full)
    assert cached_graph("key", tmp_path, Capture()).name == "small"
    assert list((tmp_path / "graphs").iterdir()) == []


def test_the_key_changes_with_what_makes_the_graph(checkpoint: Checkpoint) -> None:
    configuration = read_configuration(checkpoint("llama"))
    assert isinstance(configuration, ModelConfiguration)
    key = graph_key("decoder step", configuration, "float32")
    assert key == graph_key("decoder step", replace(configuration), "float32")
    others = {
        graph_key("encoder", configuration, "float32"),
        graph_key("decoder step", configuration, "bfloat16"),
        graph_key("decoder step", replace(configuration, norm_epsilon=1e-5), "float32"),
    }
    assert len({key, *others}) == 4
