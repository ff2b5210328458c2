"""The numbers of a model that planning needs: bytes and operations of each layer.

Read from a configuration, not from weights, so that a model can be planned before it is fetched.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

from banyan.models.configuration import ModelConfiguration

BYTES_PER_WEIGHT = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "float8": 1.0, "int8": 1.0}
"""int4 is `4 bits and a 16-bit scale for each 64 weights`, below."""

INT4_BYTES_PER_WEIGHT = 0.5 + 2 / 64


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One layer.

    Attributes:
        dense_weights: numbers in its projections, norms and dense feed-forward block: all are read
            in every step.
        attention_width: query heads x head size.
        cache_width: numbers of keys and values that one token leaves.
        window: positions a token sees; 0 means all.
        expert_weights: numbers in one expert; 0 in a dense layer.
        num_experts: in all.
        top_k: experts that one token visits.
        num_kv_heads: heads of keys and values: so many devices can cut attention between them at
            most; 0 where it is not known.
    """

    dense_weights: int
    attention_width: int
    cache_width: int
    window: int = 0
    expert_weights: int = 0
    num_experts: int = 0
    top_k: int = 0
    num_kv_heads: int = 0

    @property
    def weights(self) -> int:
        """Numbers in the whole layer."""
        return self.dense_weights + self.expert_weights * self.num_experts


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder as planning sees it.

    Attributes:
        name: what a person called it.
        hidden_size: numbers that one token hands from layer to layer.
        layers: in order.
        vocab_size: words.
        tied_embeddings: the head is the embedding table.
        weight_dtype: "bfloat16", "float32", "int8", "int4", ...
        cache_dtype: of keys and values.
        compute_dtype: of what goes from layer to layer.
    """

    name: str
    hidden_size: int
    layers: tuple[LayerShape, ...]
    vocab_size: int
    tied_embeddings: bool
    weight_dtype: str = "bfloat16"
    cache_dtype: str = "bfloat16"
    compute_dtype: str = "bfloat16"

    @property
    def fingerprint(self) -> str:
        """Names shapes and dtypes; two models of one fingerprint may use one plan."""
        text = repr((self.hidden_size, self.layers, self.vocab_size, self.tied_embeddings))
        text += repr((self.weight_dtype, self.cache_dtype, self.compute_dtype))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def bytes_per_weight(self) -> float:
        """Bytes one number of a weight matrix takes."""
        return bytes_per_number(self.weight_dtype)

    @property
    def token_bytes(self) -> float:
        """Bytes that one token hands from a layer to the next."""
        return self.hidden_size * bytes_per_number(self.compute_dtype)

    def cache_bytes(self, layer: int) -> float:
        """Bytes that one token leaves in the cache of a layer."""
        return self.layers[layer].cache_width * bytes_per_number(self.cache_dtype)


def bytes_per_number(dtype: str) -> float:
    """Bytes one number takes, scales included."""
    return INT4_BYTES_PER_WEIGHT if dtype == "int4" else BYTES_PER_WEIGHT[dtype]


def model_shape(
    configuration: ModelConfiguration,
    name: str,
    *,
    weight_dtype: str = "bfloat16",
    cache_dtype: str = "bfloat16",
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16",
) -> ModelShape:
    """Read the shape of a decoder."""
    return ModelShape(
        name=name,
        hidden_size=configuration.hidden_size,
        layers=tuple(_layer(configuration, index) for index in range(configuration.num_layers)),
        vocab_size=configuration.vocab_size,
        tied_embeddings=configuration.tie_embeddings,
        weight_dtype=weight_dtype,
        cache_dtype=cache_dtype,
        compute_dtype=compute_dtype,
    )


def _layer(configuration: ModelConfiguration, index: int) -> LayerShape:
    hidden = configuration.hidden_size
    query, pair, dense, heads = _attention(configuration)
    dense += 2 * hidden
    window = configuration.sliding_windows[index]
    experts = configuration.experts
    if experts is None or not configuration.is_sparse(index):
        dense += 3 * hidden * configuration.intermediate_size
        return LayerShape(dense, query, pair, window, num_kv_heads=heads)
    return LayerShape(
        dense_weights=dense + hidden * (experts.num_experts + 3 * experts.shared_size),
        attention_width=query,
        cache_width=pair,
        window=window,
        expert_weights=3 * hidden * experts.intermediate_size,
        num_experts=experts.num_experts,
        top_k=experts.top_k,
        num_kv_heads=heads,
    )


def _attention(configuration: ModelConfiguration) -> tuple[int, int, int, int]:
    """Widths of queries and of the cache, numbers in the projections, and heads to cut between."""
    c, hidden, latent = configuration, configuration.hidden_size, configuration.latent
    if latent is None:
        query, pair = c.num_heads * c.head_dim, 2 * c.num_kv_heads * c.head_dim
        return query, pair, hidden * (query + pair) + query * hidden, c.num_kv_heads
    # Queries are as wide as what is cached: they are multiplied with that, head by head.
    key = latent.content_size + latent.rotary_size
    rank = latent.query_rank
    made = hidden * key * c.num_heads
    if rank is not None:
        made = (hidden + key * c.num_heads) * rank
    made += hidden * latent.cached_size
    made += latent.rank * c.num_heads * (latent.content_size + latent.value_size)
    made += c.num_heads * latent.value_size * hidden
    return c.num_heads * latent.cached_size, latent.cached_size, made, c.num_heads
