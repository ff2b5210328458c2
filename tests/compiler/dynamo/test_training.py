"""Whole models train as PyTorch trains them."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.compiler.dynamo.training import (
    assert_close,
    assert_trains_like_eager,
    compiled,
    needs_compiler,
)

pytestmark = needs_compiler


class Block(nn.Module):
    """One block of a decoder, with everything a GPT has."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norms[0](x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        hidden: Tensor = self.down(functional.gelu(self.up(self.norms[1](x)), approximate="tanh"))
        return x + hidden


class Gpt(nn.Module):
    """A GPT with tied embedding and head."""

    def __init__(self, vocabulary: int = 67, width: int = 32, layers: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(64, width)
        self.blocks = nn.ModuleList([Block(width, 4) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=3)


def tokens(length: int, vocabulary: int = 67, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, length)
    return tuple(torch.randint(0, vocabulary, shape, generator=generator) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.wide
def test_a_gpt_with_tied_weights_has_the_gradients_of_eager() -> None:
    torch.manual_seed(0)
    assert_trains_like_eager(Gpt(), tokens(13))


@pytest.mark.wide
def test_twenty_steps_follow_the_loss_of_eager() -> None:
    torch.manual_seed(0)
    plain = Gpt(layers=1)
    mine = copy.deepcopy(plain)
    run = compiled(mine)
    first = torch.zeros(())
    optimisers = [torch.optim.AdamW(m.parameters(), lr=3e-3) for m in (plain, mine)]
    for step in range(20):
        losses = [m(*tokens(16)) for m in (plain, run)]
        first = losses[0] if step == 0 else first
        assert_close(losses[1], losses[0], 1e-4, f"step {step}")
        for loss, optimiser in zip(losses, optimisers, strict=True):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert losses[0] < first


@pytest.mark.wide
def test_bfloat16_parameters_and_autocast_train() -> None:
    torch.manual_seed(0)
    assert_trains_like_eager(Gpt(layers=1).bfloat16(), tokens(13), tolerance=4e-2)
    model = Gpt(layers=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert_trains_like_eager(model, tokens(13), tolerance=4e-2)


def transformer(name: str, **sizes: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(
        vocab_size=67, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, **sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    family = {"Llama": "LlamaForCausalLM", "Bert": "BertForMaskedLM"}[name]
    model: nn.Module = getattr(transformers, family)(config)
    return model


@pytest.mark.wide
def test_a_llama_of_transformers_has_the_gradients_of_eager() -> None:
    model = transformer("Llama", num_key_value_heads=2)
    ids, labels = tokens(11)
    assert_trains_like_eager(model, (), input_ids=ids, labels=labels, use_cache=False)


@pytest.mark.wide
def test_a_bert_with_a_padding_mask_has_the_gradients_of_eager() -> None:
    model = transformer("Bert").eval()
    ids, labels = tokens(11)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    assert_trains_like_eager(model, (), input_ids=ids, labels=labels, attention_mask=mask)


ACTIVATIONS: Any = (
    functional.gelu, functional.silu, functional.relu, functional.elu, functional.softplus,
    torch.tanh, torch.sigmoid, functional.leaky_relu, functional.hardtanh, functional.mish,
    functional.hardswish, functional.logsigmoid,
)  # fmt: skip


class Activations(nn.Module):
    """Layers with another activation each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in ACTIVATIONS])
        self.norm = nn.RMSNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        for layer, activation in zip(self.layers, ACTIVATIONS, strict=True):
            x = self.norm(x + activation(layer(x)))
        return functional.softmax(x, -1).log()


@pytest.mark.wide
def test_every_activation_has_the_gradient_of_eager() -> None:
    torch.manual_seed(0)
    assert_trains_like_eager(Activations(), (torch.randn(5, 8),))


class Convolutions(nn.Module):
    """A residual block of convolutions with both kinds of norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.batch = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.norm(self.first(x)))
        return functional.adaptive_avg_pool2d(functional.relu(self.batch(self.second(x))), 2)


@pytest.mark.wide
def test_a_block_of_convolutions_has_the_gradients_of_eager() -> None:
    torch.manual_seed(0)
    model = Convolutions()
    mine = copy.deepcopy(model)
    x = torch.randn(2, 3, 8, 8)
    assert_trains_like_eager(model, (x,))
    compiled(mine)(x)
    assert_close(mine.batch.running_mean, model.batch.running_mean, 1e-5, "running mean")
