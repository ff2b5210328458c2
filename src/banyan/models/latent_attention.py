"""Multi-head latent attention over the paged cache (DeepSeek-AI, arXiv:2405.04434, section 2.1).

What makes keys from the cached vector goes into the queries, and what makes values into what
attention gives (the same section: both matrices are absorbed), so that keys and values of heads
are never made and a step reads the short vectors only.

Legend: T new tokens, H heads, R numbers of the vector that keys and values are made from.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Imported for its effect: it registers torch.ops.banyan.
from banyan.compiler.capture import torch_operations as _torch_operations  # noqa: F401
from banyan.models.configuration import ModelConfiguration
from banyan.models.latent import LatentShape
from banyan.models.layers import Batch, Linear, RootMeanSquareNorm
from banyan.models.rotary import rotate, rotate_pairs

_NORM_EPSILON = 1e-6
"""Of the norms inside attention, whatever config.json says of the others."""


class LatentAttention(nn.Module):
    """Attention whose cache holds one vector of a token for all heads."""

    def __init__(self, configuration: ModelConfiguration, latent: LatentShape) -> None:
        super().__init__()
        c, own = configuration, latent
        self._latent, self._num_heads = latent, c.num_heads
        bias, width = c.query_key_value_bias, c.num_heads * (own.content_size + own.rotary_size)
        if own.query_rank is None:
            self.q_proj = Linear(c.hidden_size, width)
        else:
            self.q_a_proj = Linear(c.hidden_size, own.query_rank, bias=bias)
            self.q_a_layernorm = RootMeanSquareNorm(own.query_rank, _NORM_EPSILON)
            self.q_b_proj = Linear(own.query_rank, width)
        self.kv_a_proj_with_mqa = Linear(c.hidden_size, own.cached_size, bias=bias)
        self.kv_a_layernorm = RootMeanSquareNorm(own.rank, _NORM_EPSILON)
        made = c.num_heads * (own.content_size + own.value_size)
        self.kv_b_proj = Linear(own.rank, made)
        values = c.num_heads * own.value_size
        self.o_proj = Linear(values, c.hidden_size, bias=c.attention_output_bias)

    def forward(
        self,
        hidden: Tensor,
        rotation: tuple[Tensor, Tensor],
        batch: Batch,
        caches: Sequence[Tensor],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Give the output [T, hidden] and the new cache."""
        own = self._latent
        turn = rotate_pairs if own.has_pairs else rotate
        q = self._queries(hidden).view(hidden.shape[0], self._num_heads, -1)
        keys, values = self._made_of_latent()
        # [H, T, content] times [H, content, R]
        content = torch.bmm(q[..., : own.content_size].transpose(0, 1), keys).transpose(0, 1)
        q = torch.cat([content, turn(q[..., own.content_size :], *rotation)], dim=-1)
        made = self.kv_a_proj_with_mqa(hidden)
        vector = self.kv_a_layernorm(made[..., : own.rank]).unsqueeze(1)
        shared = turn(made[..., own.rank :].unsqueeze(1), *rotation)
        rows = torch.cat([vector, shared], dim=-1)
        cache = torch.ops.banyan.cache_write_keys(caches[0], rows, batch.slots)
        attended = torch.ops.banyan.paged_latent_attention(
            q,
            cache,
            batch.block_tables,
            batch.query_starts,
            batch.context_lengths,
            own.scale,
            0,
            own.rank,
        )
        # [H, T, R] times [H, R, value]
        result = torch.bmm(attended.transpose(0, 1), values.transpose(1, 2)).transpose(0, 1)
        return self.o_proj(result.flatten(1)), (cache,)

    def _queries(self, hidden: Tensor) -> Tensor:
        result: Tensor
        if self._latent.query_rank is None:
            result = self.q_proj(hidden)
        else:
            result = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(hidden)))
        return result

    def _made_of_latent(self) -> tuple[Tensor, Tensor]:
        """The matrices of keys [H, content, R] and of values [H, value, R]."""
        by_head = self.kv_b_proj.weight.view(self._num_heads, -1, self._latent.rank)
        return by_head[:, : self._latent.content_size], by_head[:, self._latent.content_size :]
