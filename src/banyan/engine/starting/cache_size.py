"""How large the KV cache is and how long a sequence may become. Pure; numbers in, limits out."""

from dataclasses import dataclass

from banyan.compiler.ir.cached import CACHE_FORMATS, CacheFormat
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.engine.options import DEFAULT_TOKEN_BUDGET, EngineLimits, EngineOptions
from banyan.foundation.errors import InputError


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What one token place costs.

    Attributes:
        num_layers, num_kv_heads, head_dim: of the model; of latent attention, as it caches.
        form: how keys and values are kept.
        num_kinds: 2 for keys and values; 1 where values are parts of keys.
        bytes_beside: what a model that guesses keeps of the tokens of a block.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    form: CacheFormat
    bytes_beside: int = 0
    num_kinds: int = 2

    @property
    def bytes_per_block(self) -> int:
        """Bytes of the keys and values of 16 tokens in all layers, with their scales."""
        rows = self.num_kinds * self.num_layers * self.num_kv_heads * BLOCK_SIZE
        return rows * self.form.row_bytes(self.head_dim) + self.bytes_beside


def choose_cache_format(
    asked: str, *, dtype: str, head_dim: int, caches_values: bool = True
) -> CacheFormat:
    """How keys and values of a model that computes in `dtype` are kept; "auto" is in `dtype`.

    Args:
        asked: as a person says it.
        dtype: of the model.
        head_dim: numbers in a cached row.
        caches_values: false where values are parts of keys (latent attention).

    Raises:
        InputError: this model cannot keep them so.
    """
    form = CACHE_FORMATS[dtype if asked == "auto" else asked]
    if not form.parts and form.name != dtype:
        raise InputError(
            f"kv_cache_dtype={asked!r} needs a model that computes in {asked}, and this one "
            f"computes in {dtype}; take dtype={asked!r}, or kv_cache_dtype='auto'"
        )
    if form.parts and not caches_values:
        raise InputError(
            f"kv_cache_dtype={asked!r} is not for models with latent attention, whose cache is "
            "small as it is; take kv_cache_dtype='auto'"
        )
    if head_dim % form.unit:
        raise InputError(
            f"kv_cache_dtype={form.name!r} packs {form.unit} numbers, and the heads of this model "
            f"have {head_dim}; take kv_cache_dtype='auto'"
        )
    return form


def choose_limits(
    options: EngineOptions, shape: CacheShape, *, longest: int, cache_bytes: int
) -> EngineLimits:
    """Choose what the options leave open; `cache_bytes` of memory are the bound.

    `longest` is the model's own limit in tokens. Without `max_model_len` a context that does not
    fit into memory is shortened to what does.

    Raises:
        InputError: what was asked for does not fit into the model or into memory.
    """
    if options.max_model_len is not None and options.max_model_len > longest:
        raise InputError(
            f"max_model_len={options.max_model_len} is more than the {longest} tokens this model "
            "was made for; lower it"
        )
    num_affordable = cache_bytes // shape.bytes_per_block
    if options.num_blocks is not None:
        num_affordable = options.num_blocks
    max_model_len = options.max_model_len or min(longest, num_affordable * BLOCK_SIZE)
    num_needed = max(1, blocks_for(max_model_len))
    if num_affordable < num_needed and options.num_blocks is None:
        raise InputError(
            f"a context of {max(max_model_len, 1)} tokens needs "
            f"{_gigabytes(num_needed * shape.bytes_per_block)} of KV cache, but "
            f"{_gigabytes(cache_bytes)} can be had; lower max_model_len or "
            "free memory"
        )
    num_wanted = options.max_num_seqs * num_needed
    return EngineLimits(
        max_model_len=max_model_len,
        max_num_seqs=options.max_num_seqs,
        token_budget=options.max_num_batched_tokens
        or max(DEFAULT_TOKEN_BUDGET, options.max_num_seqs),
        num_blocks=options.num_blocks or min(num_wanted, num_affordable),
    )


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
