"""Latent attention against the same with keys and values of every head."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from banyan.models.configuration import ModelConfiguration
from banyan.models.latent import LatentShape
from banyan.models.latent_attention import LatentAttention
from banyan.models.layers import Batch
from banyan.models.loading import open_model
from banyan.models.rotary import Rotary, rotate, rotate_pairs
from tests.conftest import Checkpoint

NUM_TOKENS = 20


def made_of_every_head(module: LatentAttention, c: ModelConfiguration, x: Tensor) -> Tensor:
    """Arithmetic as in section 2.1.1 of the paper: nothing is absorbed."""
    own = c.latent
    assert own is not None
    turn = rotate_pairs if own.has_pairs else rotate
    rotation = Rotary(c.rope, c.head_dim)(torch.arange(NUM_TOKENS))
    weights = dict(module.named_parameters())
    q = (x @ weights["q_proj.weight"].T).view(NUM_TOKENS, c.num_heads, -1)
    made = x @ weights["kv_a_proj_with_mqa.weight"].T
    vector = made[:, : own.rank]
    vector = vector * torch.rsqrt(vector.pow(2).mean(-1, keepdim=True) + 1e-6)
    vector = vector * weights["kv_a_layernorm.weight"]
    heads = (vector @ weights["kv_b_proj.weight"].T).view(NUM_TOKENS, c.num_heads, -1)
    shared = turn(made[:, None, own.rank :], *rotation).expand(-1, c.num_heads, -1)
    k = torch.cat([heads[..., : own.content_size], shared], dim=-1)
    turned = turn(q[..., own.content_size :], *rotation)
    q = torch.cat([q[..., : own.content_size], turned], dim=-1)
    v = heads[..., own.content_size :]
    q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
    said = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=own.scale)
    result: Tensor = said.transpose(0, 1).flatten(1) @ weights["o_proj.weight"].T
    return result


@torch.no_grad()
@pytest.mark.parametrize("has_pairs", [True, False])
def test_the_absorbed_form_is_attention_over_keys_and_values_of_heads(
    has_pairs: bool, checkpoint: Checkpoint
) -> None:
    c = open_model(str(checkpoint("deepseek_v2"))).decoder_configuration()
    assert isinstance(c.latent, LatentShape)
    c = replace(c, latent=replace(c.latent, has_pairs=has_pairs))
    assert c.latent is not None
    module = LatentAttention(c, c.latent)
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    x = torch.randn(NUM_TOKENS, c.hidden_size, generator=generator)
    cache = torch.zeros(4, 1, c.cached_size, 16, 1)
    batch = Batch(
        torch.tensor([*range(48, 64), *range(16, 20)]),
        torch.tensor([[3, 1]], dtype=torch.int32),
        torch.tensor([0, NUM_TOKENS], dtype=torch.int32),
        torch.tensor([NUM_TOKENS], dtype=torch.int32),
    )
    rotation = Rotary(c.rope, c.head_dim)(torch.arange(NUM_TOKENS))
    found, _ = module(x, rotation, batch, [cache])
    torch.testing.assert_close(found, made_of_every_head(module, c, x), rtol=1e-4, atol=1e-4)
