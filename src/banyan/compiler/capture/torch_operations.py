"""The operations of serving that PyTorch lacks: paged caches and grouped linear layers.

Importing this module registers them as `torch.ops.banyan.*`, each with an eager reference (plain
PyTorch, written to be read, not to be fast) and a fake implementation for `torch.export`. All are
functional: a cache write returns a new cache, and the compiler does it in place.

Legend: T new tokens, S sequences, B blocks in a table, H key/value heads, Hq query heads, D head
size, p neighbours packed side by side (2 for 16-bit types, 1 for float32). A block holds 16 tokens.
Key cache [num_blocks, H, D/p, 16, p]; value cache [num_blocks, H, 16/p, D, p].
"""

import torch
from torch import Tensor

from banyan.compiler.ir.operations import PANEL_COLUMNS as BLOCK_SIZE


@torch.library.custom_op("banyan::cache_write_keys", mutates_args=())
def cache_write_keys(cache: Tensor, keys: Tensor, slots: Tensor) -> Tensor:
    """The cache with `keys` [T,H,D] at `slots` [T] int64; a negative slot writes nothing.

    Element d of a token at offset o lands at [block, h, d // p, o, d % p]; slot = block * 16 + o.
    """
    written = cache.clone()
    kept = slots >= 0
    blocks, offsets = slots[kept] // BLOCK_SIZE, slots[kept] % BLOCK_SIZE
    pack = cache.shape[-1]
    tokens, heads, size = keys.shape
    rows = keys.reshape(tokens, heads, size // pack, pack)
    written[blocks, :, :, offsets] = rows[kept].to(cache.dtype)
    return written


cache_write_keys.register_fake(lambda cache, *_: torch.empty_like(cache))


@torch.library.custom_op("banyan::cache_write_values", mutates_args=())
def cache_write_values(cache: Tensor, values: Tensor, slots: Tensor) -> Tensor:
    """The cache with `values` [T,H,D] at `slots` [T] int64; a negative slot writes nothing.

    Element d of a token at offset o lands at [block, h, o // p, d, o % p]; slot = block * 16 + o.
    The tokens of a sequence come in order; one at offset 0 clears its block first.
    """
    written = cache.clone()
    kept = slots >= 0
    blocks, offsets = slots[kept] // BLOCK_SIZE, slots[kept] % BLOCK_SIZE
    pack = cache.shape[-1]
    written[blocks[offsets == 0]] = 0
    written[blocks, :, offsets // pack, :, offsets % pack] = values[kept].to(cache.dtype)
    return written


cache_write_values.register_fake(lambda cache, *_: torch.empty_like(cache))


@torch.library.custom_op("banyan::paged_attention", mutates_args=())
def paged_attention(
    q: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    query_starts: Tensor,
    context_lengths: Tensor,
    scale: float,
    window: int,
) -> Tensor:
    """Causal attention of `q` [T,Hq,D] over the blocks of each sequence.

    Sequence s owns the tokens query_starts[s] to query_starts[s + 1]; context_lengths[s] counts
    its keys including the new ones. A token at position i sees keys j <= i, and only j > i - window
    when window is not 0. Query head h reads key/value head h // (Hq / H). Softmax in float32.
    """
    result = torch.zeros_like(q)
    for sequence, length in enumerate(context_lengths.tolist()):
        first, last = query_starts[sequence : sequence + 2].tolist()
        if first == last:
            continue
        blocks = block_tables[sequence, : -(-length // BLOCK_SIZE)].long()
        keys = key_cache[blocks].permute(0, 3, 1, 2, 4).flatten(0, 1).flatten(2)[:length]
        values = value_cache[blocks].permute(0, 2, 4, 1, 3).flatten(0, 2)[:length]
        group = q.shape[1] // keys.shape[1]
        keys = keys.float().repeat_interleave(group, 1)
        values = values.float().repeat_interleave(group, 1)
        scores = torch.einsum("qhd,khd->hqk", q[first:last].float(), keys) * scale
        positions = torch.arange(length - (last - first), length).unsqueeze(1)
        seen = torch.arange(length).unsqueeze(0)
        hidden = seen > positions
        if window:
            hidden |= seen <= positions - window
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        result[first:last] = torch.einsum("hqk,khd->qhd", weights, values).to(q.dtype)
    return result


paged_attention.register_fake(lambda q, *_: torch.empty_like(q))


@torch.library.custom_op("banyan::paged_latent_attention", mutates_args=())
def paged_latent_attention(
    q: Tensor,
    cache: Tensor,
    block_tables: Tensor,
    query_starts: Tensor,
    context_lengths: Tensor,
    scale: float,
    window: int,
    value_size: int,
) -> Tensor:
    """`paged_attention` over keys [T,1,D] whose first `value_size` numbers are the values."""
    keys = cache.permute(0, 1, 3, 2, 4).flatten(3)
    # As float32 values are kept: [blocks, 1, 16, D, 1]. What is no value is left out behind.
    where = (block_tables, query_starts, context_lengths)
    result: Tensor = paged_attention(q, cache, keys.unsqueeze(-1), *where, scale, window)
    return result[..., :value_size].contiguous()


paged_latent_attention.register_fake(
    lambda q, cache, tables, starts, lengths, scale, window, value_size: q.new_empty(
        *q.shape[:2], value_size
    )
)


@torch.library.custom_op("banyan::cache_write_quantized", mutates_args=())
def cache_write_quantized(
    cache: Tensor, scales: Tensor, rows: Tensor, slots: Tensor, layout: str
) -> tuple[Tensor, Tensor]:
    """The quantised cache and its scales with `rows` [T,H,D] at `slots`; `layout` keys or values.

    Formats as in `ir.cached`: int8, float8_e4m3fn, or uint8 with two numbers in a byte.
    """
    numbers, beside = _quantized(rows.float(), cache.dtype)
    write = cache_write_keys if layout == "keys" else cache_write_values
    written = scales.clone()
    kept = slots >= 0
    blocks, offsets = slots[kept] // BLOCK_SIZE, slots[kept] % BLOCK_SIZE
    written[blocks[offsets == 0]] = 0
    written[blocks, :, :, offsets] = beside[kept]
    return write(cache, numbers, slots), written


cache_write_quantized.register_fake(
    lambda cache, scales, *_: (torch.empty_like(cache), torch.empty_like(scales))
)


def _quantized(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Stored elements [T,H,E] of rows [T,H,D], and the numbers [T,H,parts] beside each."""
    if dtype is torch.uint8:
        low = rows.amin(-1, keepdim=True)
        spread = rows.amax(-1, keepdim=True) - low
    else:
        low, spread = torch.zeros_like(rows[..., :1]), rows.abs().amax(-1, keepdim=True)
    largest = {torch.uint8: 15.0, torch.int8: 127.0}.get(dtype, 448.0)
    scale = torch.where(spread == 0, 1.0, spread / largest)
    scaled = (rows - low) / scale
    if dtype is torch.float8_e4m3fn:
        return scaled.nan_to_num(0.0).to(dtype), scale
    rounded = torch.floor(scaled + 0.5)
    if dtype is torch.int8:
        return rounded.to(dtype), scale
    nibbles = rounded.clamp(max=largest).to(dtype)
    pairs = nibbles[..., 0::2] | nibbles[..., 1::2] << 4
    return pairs, torch.cat([scale, low + scale * 8], -1)


@torch.library.custom_op("banyan::paged_attention_quantized", mutates_args=())
def paged_attention_quantized(
    q: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    key_scales: Tensor,
    value_scales: Tensor,
    block_tables: Tensor,
    query_starts: Tensor,
    context_lengths: Tensor,
    scale: float,
    window: int,
) -> Tensor:
    """`paged_attention` over what `cache_write_quantized` wrote; `q` is bfloat16."""
    keys = _widened(key_cache.permute(0, 1, 3, 2, 4).flatten(3), key_scales)
    values = _widened(value_cache.permute(0, 1, 2, 4, 3).flatten(2, 3), value_scales)
    # As float32 is kept: [blocks, H, D, 16, 1] and [blocks, H, 16, D, 1].
    keys, values = keys.transpose(2, 3).unsqueeze(-1), values.unsqueeze(-1)
    where = (block_tables, query_starts, context_lengths)
    result: Tensor = paged_attention(q, keys, values, *where, scale, window)
    return result


paged_attention_quantized.register_fake(lambda q, *_: torch.empty_like(q))


def _widened(rows: Tensor, scales: Tensor) -> Tensor:
    """Rows [blocks,H,16,E] of any format as float32 [blocks,H,16,D]."""
    parts = scales.unsqueeze(-1)
    if rows.dtype is not torch.uint8:
        return rows.float() * parts[:, :, 0]
    numbers = torch.stack([rows & 15, rows >> 4], -1).flatten(3).float() - 8
    return numbers * parts[:, :, 0] + parts[:, :, 1]


@torch.library.custom_op("banyan::grouped_linear", mutates_args=())
def grouped_linear(x: Tensor, weight: Tensor, experts: Tensor) -> Tensor:
    """Row r of `x` [R,K] times the transpose of `weight` [E,N,K] at `experts`[r]: [R,N]."""
    result = x.new_zeros(x.shape[0], weight.shape[1])
    for expert in sorted(set(experts.tolist())):
        rows = experts == expert
        result[rows] = torch.nn.functional.linear(x[rows], weight[expert])
    return result


grouped_linear.register_fake(lambda x, weight, _: x.new_empty(x.shape[0], weight.shape[1]))


@torch.library.custom_op("banyan::quantized_linear", mutates_args=())
def quantized_linear(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    bias: Tensor | None,
    format: str,
    group: int,
    rows: int,
    activation: str,
) -> Tensor:
    """`x` [..., K] times the transpose of a quantised weight of N rows; see `ir.quantized`."""
    numbers = weight.float()
    if format == "int4":
        numbers = torch.stack([weight & 15, weight >> 4], dim=-1).flatten(-2).float()

    def spread(blocks: Tensor) -> Tensor:
        grown = blocks.float().repeat_interleave(rows, 0).repeat_interleave(group, 1)
        return grown[: numbers.shape[0], : numbers.shape[1]]

    if format == "int4":
        numbers = numbers - (8 if zeros is None else spread(zeros))
    wide = x.float()
    step = torch.ones_like(wide[..., :1])
    if activation == "int8":
        largest = wide.abs().amax(-1, keepdim=True)
        step = torch.where(largest == 0, 1.0, largest / 127)
        wide = torch.round(wide / step)
    result = (wide @ (numbers * spread(scales)).T) * step
    return (result if bias is None else result + bias.float()).to(x.dtype)


quantized_linear.register_fake(lambda x, weight, *_: x.new_empty(*x.shape[:-1], weight.shape[0]))
