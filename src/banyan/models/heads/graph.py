"""The graphs of heads that guess tokens, kept on disk or captured anew; see `heads.capture`."""

from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.models.capturing import CaptureWork, capture_apart
from banyan.models.graph_cache import cached_graph, graph_key
from banyan.models.heads.reading import Heads, MedusaHeads


def heads_graph(heads: Heads, *, dtype: str, cache_directory: Path | None = None) -> Graph:
    """Give the graph of heads whose weights have `dtype`, "float32" or "bfloat16".

    Without `cache_directory` it is captured every time.
    """
    is_medusa = isinstance(heads, MedusaHeads)
    function = "capture_medusa" if is_medusa else "capture_eagle"
    work = CaptureWork("banyan.models.heads.capture", function, {"heads": heads, "dtype": dtype})
    key = graph_key("Medusa heads" if is_medusa else "EAGLE head", heads, dtype)
    return cached_graph(key, cache_directory, lambda: capture_apart(work))
