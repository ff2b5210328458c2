"""Ten decoders changed the way people change them: a few lines of somebody's `forward`.

Five change a module of transformers by subclassing or replacing parts; five are decoders of
their own, written as people write them.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import transformers as hub
from torch import Tensor, nn
from torch.nn import functional

from tests.compiler.zoo.models import DECODER, LENGTH, ZooModel, seeded

WIDTH, HEADS, VOCABULARY = 64, 4, 97


def causal(length: int, device: torch.device) -> Tensor:
    """True where a query may look."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


class Attention(nn.Module):
    """Self-attention of a plain decoder; subclasses change what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v = nn.Linear(WIDTH, WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)

    def bias(self, length: int, x: Tensor) -> Tensor:
        hidden = ~causal(length, x.device)
        return torch.zeros_like(hidden, dtype=x.dtype).masked_fill(hidden, -math.inf)

    def forward(self, x: Tensor, first_values: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q, k, v = (self.heads(layer(x)) for layer in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + self.bias(x.shape[1], x)
        mixed = scores.softmax(-1, dtype=torch.float32).to(x.dtype) @ self.values(v, first_values)
        return self.out(self.gate(x, mixed.transpose(1, 2).flatten(2))), v

    def values(self, v: Tensor, first_values: Tensor | None) -> Tensor:
        return v

    def gate(self, x: Tensor, mixed: Tensor) -> Tensor:
        return mixed


class FeedForward(nn.Module):
    """Two layers around an activation."""

    def __init__(self, activation: Callable[[Tensor], Tensor] = functional.gelu) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, 3 * WIDTH)
        self.down = nn.Linear(3 * WIDTH, WIDTH)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.down(self.activation(self.up(x)))
        return found


class Block(nn.Module):
    """One layer."""

    def __init__(self, attention: nn.Module, feed_forward: nn.Module) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, first_values: Tensor | None) -> tuple[Tensor, Tensor]:
        mixed, values = self.attention(self.norm_1(x), first_values)
        x = x + mixed
        return x + self.feed_forward(self.norm_2(x)), values


class Decoder(nn.Module):
    """Embedding, blocks, head."""

    def __init__(self, blocks: list[nn.Module], scale: float = 1.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.scale = scale

    def forward(self, input_ids: Tensor) -> Tensor:
        x, first_values = self.embedding(input_ids) * self.scale, None
        for block in self.blocks:
            x, values = block(x, first_values)
            first_values = values if first_values is None else first_values
        logits: Tensor = self.head(self.norm(x))
        return logits


class SlopedAttention(Attention):
    """ALiBi: the further away, the lower the score, by a slope of each head."""

    def bias(self, length: int, x: Tensor) -> Tensor:
        places = torch.arange(length, device=x.device)
        distance = (places[None, :] - places[:, None]).to(x.dtype)
        slopes = torch.tensor([2.0 ** (-8.0 * (h + 1) / HEADS) for h in range(HEADS)]).to(x)
        return super().bias(length, x) + slopes[:, None, None] * distance


class WindowedAttention(Attention):
    """Looks at the last `window` places only; None looks at all."""

    def __init__(self, window: int | None) -> None:
        super().__init__()
        self.window = window

    def bias(self, length: int, x: Tensor) -> Tensor:
        if self.window is None:
            return super().bias(length, x)
        places = torch.arange(length, device=x.device)
        far = places[:, None] - places[None, :] >= self.window
        return super().bias(length, x).masked_fill(far, -math.inf)


class GatedAttention(Attention):
    """The result of attention times a sigmoid of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_layer = nn.Linear(WIDTH, WIDTH)

    def gate(self, x: Tensor, mixed: Tensor) -> Tensor:
        return mixed * torch.sigmoid(self.gate_layer(x))


class ResidualValues(Attention):
    """Values are mixed with those of the first layer by a learned share."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor([0.3]))

    def values(self, v: Tensor, first_values: Tensor | None) -> Tensor:
        if first_values is None:
            return v
        share = torch.sigmoid(self.share)
        return share * v + (1 - share) * first_values


class SharedExpert(nn.Module):
    """Two of four experts for each token, and one for all; every expert computes every token."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, 4, bias=False)
        self.up = nn.Parameter(torch.zeros(4, WIDTH, 32))
        self.down = nn.Parameter(torch.zeros(4, 32, WIDTH))
        self.shared = FeedForward(functional.silu)

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2)
        share = torch.zeros_like(x[..., :4]).scatter(-1, chosen, weights)
        inner = functional.silu(torch.einsum("blw,ewh->eblh", x, self.up))
        routed = torch.einsum("eblh,ehw,ble->blw", inner, self.down, share)
        found: Tensor = routed + self.shared(x)
        return found


class AdaptedLinear(nn.Module):
    """LoRA: a frozen layer and a product of two thin ones."""

    def __init__(self, layer: nn.Linear, rank: int = 4, alpha: float = 8.0) -> None:
        super().__init__()
        self.layer, self.scale = layer, alpha / rank
        self.thin = nn.Linear(layer.in_features, rank, bias=False)
        self.wide = nn.Linear(rank, layer.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x) + self.wide(self.thin(x)) * self.scale
        return found


class OwnActivation(nn.Module):
    """An activation nobody else has."""

    def forward(self, x: Tensor) -> Tensor:
        squared = functional.relu(x).square()
        return squared * torch.tanh(functional.softplus(x)) + 0.1 * torch.sin(x)


def _own(attention: Callable[[int], nn.Module], feed_forward: Callable[[], nn.Module]) -> Any:
    return Decoder([Block(attention(i), feed_forward()) for i in range(3)])


def _llama() -> Any:
    return hub.LlamaForCausalLM(hub.LlamaConfig(**DECODER))


class NormedAttention(nn.Module):
    """An attention of transformers with one more norm behind it."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention, self.norm = attention, nn.RMSNorm(WIDTH)

    def forward(self, *args: Any, **keywords: Any) -> Any:
        mixed, *rest = self.attention(*args, **keywords)
        return (self.norm(mixed), *rest)


def extra_norm() -> Any:
    model = _llama()
    for layer in model.model.layers:
        layer.self_attn = NormedAttention(layer.self_attn)
    return model


def lora_inside() -> Any:
    model = _llama()
    for layer in model.model.layers:
        for name in ("q_proj", "v_proj"):
            setattr(layer.self_attn, name, AdaptedLinear(getattr(layer.self_attn, name)))
    return model


def custom_activation() -> Any:
    model = _llama()
    for layer in model.model.layers:
        layer.mlp.act_fn = OwnActivation()
    return model


def tied_layers() -> Any:
    model = _llama()
    model.model.layers[1] = model.model.layers[0]
    model.lm_head.weight = model.model.embed_tokens.weight
    return model


class ScaledEmbedding(nn.Embedding):
    """An embedding times the square root of its width, as Gemma has it."""

    def forward(self, input: Tensor) -> Tensor:
        rows: Tensor = super().forward(input)
        return rows * torch.tensor(self.embedding_dim**0.5).to(rows.dtype)


def embedding_scale() -> Any:
    model = _llama()
    model.model.embed_tokens = ScaledEmbedding(VOCABULARY, WIDTH)
    return model


def _changed(name: str, make: Callable[[], Any], **more: Any) -> ZooModel:
    def arguments(length: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(length)
        tokens = torch.randint(3, 90, (2, length), generator=generator)
        return {"input_ids": tokens, **more}

    shapes = {"input_ids": {1: LENGTH}}
    return ZooModel(name, lambda: seeded(make), arguments, (12, 2, 37), shapes)


CHANGED = (
    _changed("extra_norm", extra_norm, use_cache=False),
    _changed("alibi", lambda: _own(lambda _: SlopedAttention(), FeedForward)),
    _changed(
        "sliding_and_global_layers",
        lambda: _own(lambda i: WindowedAttention(None if i == 1 else 5), FeedForward),
    ),
    _changed("lora_inside", lora_inside, use_cache=False),
    _changed("custom_activation", custom_activation, use_cache=False),
    _changed("gated_attention", lambda: _own(lambda _: GatedAttention(), FeedForward)),
    _changed("value_residual", lambda: _own(lambda _: ResidualValues(), FeedForward)),
    _changed("shared_expert", lambda: _own(lambda _: Attention(), SharedExpert)),
    _changed("tied_layers", tied_layers, use_cache=False),
    _changed("embedding_scale", embedding_scale, use_cache=False),
)
