"""The compiler's graph of an encoder, from the cache on disk or captured anew.

Imports torch only when nothing is kept. Arguments `token_ids`, `attention_mask` and `token_types`,
each [texts, tokens] int64; output `hidden` [texts, tokens, hidden size] float32; weights are named
as in the checkpoint.
"""

from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.models.configuration import EncoderConfiguration
from banyan.models.graph_cache import cached_graph, graph_key


def encoder_graph(
    configuration: EncoderConfiguration, *, dtype: str, cache_directory: Path | None = None
) -> Graph:
    """Give the graph of an encoder whose weights have `dtype`, "float32" or "bfloat16".

    Without `cache_directory` it is captured every time.
    """

    def capture() -> Graph:
        # Imported here because it imports torch, which a warm start must not.
        from banyan.models.encoder_capture import capture_encoder  # noqa: PLC0415

        return capture_encoder(configuration, dtype=dtype)

    return cached_graph(graph_key("encoder", configuration, dtype), cache_directory, capture)
