"""The graphs of heads that guess tokens, kept on disk or captured anew; see `heads.capture`."""

from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.models.graph_cache import cached_graph, graph_key
from banyan.models.heads.reading import Heads, MedusaHeads


def heads_graph(heads: Heads, *, dtype: str, cache_directory: Path | None = None) -> Graph:
    """Give the graph of heads whose weights have `dtype`, "float32" or "bfloat16".

    Without `cache_directory` it is captured every time.
    """

    def capture() -> Graph:
        # Imported here because it imports torch, which a warm start must not.
        from banyan.models.heads.capture import capture_eagle, capture_medusa  # noqa: PLC0415

        if isinstance(heads, MedusaHeads):
            return capture_medusa(heads, dtype=dtype)
        return capture_eagle(heads, dtype=dtype)

    kind = "Medusa heads" if isinstance(heads, MedusaHeads) else "EAGLE head"
    return cached_graph(graph_key(kind, heads, dtype), cache_directory, capture)
