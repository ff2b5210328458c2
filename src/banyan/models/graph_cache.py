"""Keep the text of captured graphs on disk, so that a warm start never imports torch.

A graph is found by the content that made it: configuration, dtype, the source of the architectures
and of the capture, and the version of torch. A damaged entry counts as absent; a disk that cannot
be written costs a warning, never the start.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.foundation.errors import GraphError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.getLogger(__name__)


def graph_key(kind: str, configuration: "DataclassInstance", dtype: str) -> str:
    """Name the graph of `kind` for a configuration; equal content gives an equal name."""
    content = {
        "kind": kind,
        "configuration": asdict(configuration),
        "dtype": dtype,
        "sources": _sources_digest(),
        "torch": _torch_version(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def cached_graph(key: str, directory: Path | None, capture: Callable[[], Graph]) -> Graph:
    """Give the graph kept under `key`, or capture and keep it; None keeps nothing."""
    if directory is None:
        return capture()
    path = directory / "graphs" / f"{key}.txt"
    graph = _read(path)
    if graph is None:
        graph = capture()
        _keep(path, print_graph(graph))
    return graph


def _read(path: Path) -> Graph | None:
    try:
        return parse_graph(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, GraphError) as error:
        logger.warning("the kept graph %s cannot be used and is captured anew: %s", path, error)
        return None


def _keep(path: Path, text: str) -> None:
    """Write to a file of our own first: two processes may keep the same graph at once."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        logger.warning("the captured graph is not kept, the next start captures again: %s", error)
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@cache
def _sources_digest() -> str:
    """Digest every source file that has a say in what is captured."""
    models = Path(__file__).parent
    compiler = models.parent / "compiler"
    files = [
        *models.glob("*.py"),
        *models.glob("speech/*.py"),
        *models.glob("vision/*.py"),
        *models.glob("heads/*.py"),
        *compiler.glob("capture/*.py"),
        *compiler.glob("ir/*.py"),
    ]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:  # pragma: no cover  (a server that only has kept graphs)
        return "none"
