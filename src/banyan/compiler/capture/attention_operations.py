"""Attention with a backward of its own: the same two operations on every chip.

PyTorch's own attention becomes another internal operation on each device, and decomposing the
forward of one without its backward gives wrong gradients in silence (pytorch#117097). A graph that
calls `attend` instead is captured as `attention_forward` and `attention_backward`.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

KINDS = frozenset({torch.float32, torch.bfloat16, torch.float16})


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    """Scores [B,H,Tq,Tk] in float32; -inf where nothing may be seen."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scores = query.float() @ key.float().mT * scale
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else scores + mask


def _weights(scores: Tensor, lse: Tensor) -> Tensor:
    return torch.exp(scores - lse.masked_fill(lse == -math.inf, 0.0).unsqueeze(-1))


@torch.library.custom_op("banyan::attention_forward", mutates_args=())
def attention_forward(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention of [B,H,Tq,D] over [B,G,Tk,D], G groups of heads: output and log-sums [B,H,Tq]."""
    scores = _scores(query, key, mask, causal, scale)
    lse = scores.logsumexp(-1)
    wide = value.float().repeat_interleave(query.shape[1] // value.shape[1], 1)
    return (_weights(scores, lse) @ wide).to(query.dtype), lse


attention_forward.register_fake(
    lambda query, _key, value, *_: (
        query.new_empty((*query.shape[:3], value.shape[3])),
        query.new_empty(query.shape[:3], dtype=torch.float32),
    )
)


@torch.library.custom_op("banyan::attention_backward", mutates_args=())
def attention_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values."""
    weights = _weights(_scores(query, key, mask, causal, scale), lse)
    groups = key.shape[1]
    wide = value.float().repeat_interleave(query.shape[1] // groups, 1)
    inner = (gradient.float() * output.float()).sum(-1, keepdim=True)
    change = weights * (gradient.float() @ wide.mT - inner) * scale

    def of_group(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], groups, -1, *x.shape[2:]).sum(2)

    for_query = change @ key.float().repeat_interleave(query.shape[1] // groups, 1)
    for_key = of_group(change.mT @ query.float())
    for_value = of_group(weights.mT @ gradient.float())
    return for_query.to(query.dtype), for_key.to(key.dtype), for_value.to(value.dtype)


attention_backward.register_fake(
    lambda _, *tensors: tuple(x.new_empty(x.shape) for x in tensors[:3])
)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, mask, ctx.causal, ctx.scale = inputs
    ctx.save_for_backward(query, key, value, *output, mask)


def _differentiate(context: Any, gradient: Tensor, _lse: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, output, lse, mask = context.saved_tensors
    arguments = (query, key, value, output, lse, mask, context.causal, context.scale)
    changes = attention_backward(gradient, *arguments)
    return (*changes, None, None, None)


attention_forward.register_autograd(_differentiate, setup_context=_remember)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`F.scaled_dot_product_attention`, through our operations where they can say it.

    Dropout and masks that are learned stay with PyTorch.
    """
    learned = attn_mask is not None and attn_mask.requires_grad
    grouped = enable_gqa and query.ndim > 2 and query.shape[-3] % key.shape[-3] == 0
    ranks = query.ndim == key.ndim == value.ndim and query.ndim in (3, 4)
    same = query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    alike = query.dtype is key.dtype is value.dtype and query.dtype in KINDS
    if learned or dropout_p or not ranks or not alike or not (same or grouped):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    mask = None if attn_mask is None else _four_dims(attn_mask, query.ndim)
    rank = query.ndim
    if rank == 3:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
    output: Tensor = attention_forward(query, key, value, mask, is_causal, factor)[0]
    return output.squeeze(1) if rank == 3 else output


def _four_dims(mask: Tensor, rank: int) -> Tensor:
    """A mask of any rank as bool or float32 [B|1, H|1, Tq|1, Tk|1]."""
    wide = mask if mask.dtype is torch.bool else mask.float()
    if rank == 3 and wide.ndim == 3:
        wide = wide.unsqueeze(1)
    while wide.ndim < 4:
        wide = wide.unsqueeze(0)
    return wide
