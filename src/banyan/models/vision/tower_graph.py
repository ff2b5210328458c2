"""The graph of a tower, kept on disk or captured anew. Imports torch only to capture."""

from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.models.graph_cache import cached_graph, graph_key
from banyan.models.vision.configuration import Tower


def vision_tower_graph(tower: Tower, *, dtype: str, cache_directory: Path | None = None) -> Graph:
    """Give the graph of a tower whose weights have `dtype`; see `vision.capture`."""

    def capture() -> Graph:
        # Imported here because it imports torch, which a warm start must not.
        from banyan.models.vision.capture import capture_tower  # noqa: PLC0415

        return capture_tower(tower, dtype=dtype)

    return cached_graph(graph_key("vision tower", tower, dtype), cache_directory, capture)
