"""The parts that decoders share: norm, attention over the paged cache, dense feed-forward.

Attribute names are those of Hugging Face checkpoints, so the name of a parameter is the name of its
tensor. Parameters are made empty: weights are bound to the captured graph, never loaded here.

Legend: T new tokens, H query heads, G key/value heads, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

# Imported for its effect: it registers torch.ops.banyan.
from banyan.compiler.capture import torch_operations as _torch_operations  # noqa: F401
from banyan.models.configuration import ModelConfiguration
from banyan.models.rotary import rotate


@dataclass(frozen=True, slots=True)
class Batch:
    """Where the tokens of one step belong; see `Decoder.forward` for the shapes."""

    slots: Tensor
    block_tables: Tensor
    query_starts: Tensor
    context_lengths: Tensor


class Float32Parameter(nn.Parameter):
    """A weight that stays float32 whatever the model computes in."""


class Linear(nn.Module):
    """A matrix [outputs, inputs] with an optional bias."""

    def __init__(self, num_inputs: int, num_outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_outputs, num_inputs), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(num_outputs), requires_grad=False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Give x times the transposed matrix, plus the bias."""
        return functional.linear(x, self.weight, self.bias)


class Embedding(nn.Module):
    """A table [rows, size] read by row number."""

    def __init__(self, num_rows: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_rows, size), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Give the chosen rows."""
        return functional.embedding(rows, self.weight)


class RootMeanSquareNorm(nn.Module):
    """Divide by the root mean square, in float32, then scale in the dtype of the model."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self._epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dim."""
        wide = x.float()
        mean_square = wide.pow(2).mean(-1, keepdim=True)
        return self.weight * (wide * torch.rsqrt(mean_square + self._epsilon)).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention that writes and reads the paged cache of its layer."""

    def __init__(self, configuration: ModelConfiguration, layer: int) -> None:
        super().__init__()
        c = configuration
        self._num_heads, self._num_kv_heads, self._head_dim = (
            c.num_heads,
            c.num_kv_heads,
            c.head_dim,
        )
        self._scale = c.head_dim**-0.5
        self._window = c.sliding_windows[layer]
        bias = c.query_key_value_bias
        self.q_proj = Linear(c.hidden_size, c.num_heads * c.head_dim, bias=bias)
        self.k_proj = Linear(c.hidden_size, c.num_kv_heads * c.head_dim, bias=bias)
        self.v_proj = Linear(c.hidden_size, c.num_kv_heads * c.head_dim, bias=bias)
        self.o_proj = Linear(c.num_heads * c.head_dim, c.hidden_size, bias=c.attention_output_bias)
        if c.query_key_norm:
            self.q_norm: nn.Module = RootMeanSquareNorm(c.head_dim, c.norm_epsilon)
            self.k_norm: nn.Module = RootMeanSquareNorm(c.head_dim, c.norm_epsilon)
        else:
            self.q_norm, self.k_norm = nn.Identity(), nn.Identity()

    def forward(
        self,
        hidden: Tensor,
        rotation: tuple[Tensor, Tensor],
        batch: Batch,
        caches: Sequence[Tensor],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Give the output [T, hidden] and the new caches, in the order of `Decoder.forward`."""
        q = self.q_norm(self.q_proj(hidden).unflatten(-1, (self._num_heads, self._head_dim)))
        k = self.k_norm(self.k_proj(hidden).unflatten(-1, (self._num_kv_heads, self._head_dim)))
        v = self.v_proj(hidden).unflatten(-1, (self._num_kv_heads, self._head_dim))
        q, k = rotate(q, *rotation), rotate(k, *rotation)
        if len(caches) == 2:
            attended, written = self._attend(q, k, v, batch, caches)
        else:
            attended, written = self._attend_quantized(q, k, v, batch, caches)
        return self.o_proj(attended.flatten(1)), written

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, batch: Batch, caches: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        key_cache = torch.ops.banyan.cache_write_keys(caches[0], k, batch.slots)
        value_cache = torch.ops.banyan.cache_write_values(caches[1], v, batch.slots)
        attended = torch.ops.banyan.paged_attention(
            q,
            key_cache,
            value_cache,
            batch.block_tables,
            batch.query_starts,
            batch.context_lengths,
            self._scale,
            self._window,
        )
        return attended, (key_cache, value_cache)

    def _attend_quantized(
        self, q: Tensor, k: Tensor, v: Tensor, batch: Batch, caches: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        keys, values, key_scales, value_scales = caches
        write = torch.ops.banyan.cache_write_quantized
        keys, key_scales = write(keys, key_scales, k, batch.slots, "keys")
        values, value_scales = write(values, value_scales, v, batch.slots, "values")
        written = (keys, values, key_scales, value_scales)
        attended = torch.ops.banyan.paged_attention_quantized(
            q.to(torch.bfloat16),
            *written,
            batch.block_tables,
            batch.query_starts,
            batch.context_lengths,
            self._scale,
            self._window,
        )
        return attended.to(q.dtype), written


class GatedBlock(nn.Module):
    """Feed-forward with a gate: down(silu(gate(x)) * up(x))."""

    def __init__(self, hidden: int, inner: int, *, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden, inner, bias=bias)
        self.up_proj = Linear(hidden, inner, bias=bias)
        self.down_proj = Linear(inner, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [T, hidden] to [T, hidden]."""
        gated: Tensor = functional.silu(self.gate_proj(x)) * self.up_proj(x)
        result: Tensor = self.down_proj(gated)
        return result
