"""The graphs that serve: a decoder's step and an encoder, kept on disk or captured anew.

When nothing is kept another process imports torch and captures. Weights are named as in the
checkpoint.

The step of a decoder takes the arguments `token_ids`, `positions`, `slots`, `block_tables`,
`query_starts`, `context_lengths` and `logit_rows`, shaped as in `Decoder.forward`, and the states
`key_cache.{layer}` and `value_cache.{layer}`, of a quantised cache also `key_scales.{layer}` and
`value_scales.{layer}`; its output is `logits`, `hidden` or `scores`. That of a model that sees
images also takes `image_rows` and `image_index`, and its `positions` are [3, tokens] where the rope
has sections. Where heads guess tokens (`models.heads`) a second output is `hidden` [T, hidden]
float32: the states behind the last norm, of every token of the step. An encoder takes `token_ids`,
`attention_mask` and `token_types`, each [texts, tokens] int64; its output is `hidden` or, with a
head for labels, `scores`.
"""

from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.models.capturing import CaptureWork, capture_apart
from banyan.models.configuration import EncoderConfiguration, ModelConfiguration
from banyan.models.graph_cache import cached_graph, graph_key


def decoder_step_graph(
    configuration: ModelConfiguration,
    *,
    dtype: str,
    cache_format: str | None = None,
    gives_hidden: bool = False,
    cache_directory: Path | None = None,
) -> Graph:
    """Give the step graph of a decoder whose weights have `dtype`, "float32" or "bfloat16".

    `cache_format` names one of `ir.cached`; None keeps keys and values in `dtype`. With
    `gives_hidden` a model that gives logits gives `hidden` too. Without `cache_directory` the graph
    is captured every time.
    """
    form = cache_format or dtype

    arguments = {"configuration": configuration, "dtype": dtype, "cache_format": form}
    kind = f"decoder step over {form}"
    if gives_hidden:
        arguments["gives_hidden"] = True
        kind += " with hidden states"
    work = CaptureWork("banyan.models.step_capture", "capture_decoder_step", arguments)
    key = graph_key(kind, configuration, dtype)
    return cached_graph(key, cache_directory, lambda: capture_apart(work))


def encoder_graph(
    configuration: EncoderConfiguration, *, dtype: str, cache_directory: Path | None = None
) -> Graph:
    """Give the graph of an encoder whose weights have `dtype`, "float32" or "bfloat16".

    Without `cache_directory` it is captured every time.
    """
    work = CaptureWork(
        "banyan.models.encoder_capture",
        "capture_encoder",
        {"configuration": configuration, "dtype": dtype},
    )
    key = graph_key("encoder", configuration, dtype)
    return cached_graph(key, cache_directory, lambda: capture_apart(work))
