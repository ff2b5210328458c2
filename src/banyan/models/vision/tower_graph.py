"""The graph of a tower, kept on disk or captured anew by a process of its own. Imports no torch."""

from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.models.capturing import CaptureWork, capture_apart
from banyan.models.graph_cache import cached_graph, graph_key
from banyan.models.vision.configuration import Tower


def vision_tower_graph(tower: Tower, *, dtype: str, cache_directory: Path | None = None) -> Graph:
    """Give the graph of a tower whose weights have `dtype`; see `vision.capture`."""
    work = CaptureWork(
        "banyan.models.vision.capture", "capture_tower", {"tower": tower, "dtype": dtype}
    )
    key = graph_key("vision tower", tower, dtype)
    return cached_graph(key, cache_directory, lambda: capture_apart(work))
