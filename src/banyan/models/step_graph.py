"""The compiler's graph of one decoder step, from the cache on disk or captured anew.

Imports torch only when nothing is kept. The graph's inputs:

- arguments `token_ids`, `positions`, `slots`, `block_tables`, `query_starts`, `context_lengths`,
  `logit_rows`, shaped as in `banyan.models.decoder.Decoder.forward`;
- states `key_cache.{layer}`, `value_cache.{layer}`;
- weights, named as in the checkpoint.

Its output for the caller is `logits`.
"""

from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.models.configuration import ModelConfiguration
from banyan.models.graph_cache import cached_graph, graph_key


def decoder_step_graph(
    configuration: ModelConfiguration, *, dtype: str, cache_directory: Path | None = None
) -> Graph:
    """Give the step graph of a decoder whose weights and caches have `dtype`.

    `dtype` is "float32" or "bfloat16". Without `cache_directory` it is captured every time.
    """

    def capture() -> Graph:
        # Imported here because it imports torch, which a warm start must not.
        from banyan.models.step_capture import capture_decoder_step  # noqa: PLC0415

        return capture_decoder_step(configuration, dtype=dtype)

    return cached_graph(graph_key("decoder step", configuration, dtype), cache_directory, capture)
