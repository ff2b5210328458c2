"""One layer of Qwen3-0.6B as the Transformers library has it, and how a call of it is timed."""

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers.models.qwen3 import modeling_qwen3 as qwen3

TOKENS, WIDTH = 512, 1024
PAUSE_SECONDS = 0.02


class Block(torch.nn.Module):
    """A decoder layer with the rotary tables and the causal mask it needs."""

    def __init__(self) -> None:
        super().__init__()
        configuration = qwen3.Qwen3Config(
            hidden_size=WIDTH,
            intermediate_size=3072,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            num_hidden_layers=1,
            attn_implementation="sdpa",
        )
        self.layer = qwen3.Qwen3DecoderLayer(configuration, 0)
        self.rotary = qwen3.Qwen3RotaryEmbedding(configuration)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map [1, tokens, width] to the same shape."""
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        embeddings = self.rotary(hidden, positions)
        result: Any = self.layer(hidden, position_embeddings=embeddings, attention_mask=None)
        return result[0] if isinstance(result, tuple) else result  # type: ignore[no-any-return]


def block() -> Block:
    torch.manual_seed(0)
    made = Block().to(torch.bfloat16).eval()
    for parameter in made.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return made


def seconds(call: Callable[[], object]) -> float:
    """Time of the second of two calls, whose threads are awake."""
    time.sleep(PAUSE_SECONDS)
    call()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
