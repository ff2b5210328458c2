"""A tiny decoder that finds needles, trained here in minutes: keys and the values behind them.

    python -m benchmarks.needle_model DIRECTORY [--steps N]

Text is random filler with pairs "key value" strewn in; whenever a key comes again, its value must
follow. Layer 0 sees a token and the one before it, layer 1 sees everything, and there are no
positions, so nothing ties it to the length it was trained at: only the softmax thins out as the
text grows. As log(length) scales scores in Chiang and Cholak (2022, arXiv:2202.12172), the queries
of layer 1 are sharpened by log(longest) / log(trained) when the model is written. It is written as
a Qwen3 checkpoint whose rotary angles are divided by so much that none turns.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from torch.nn import functional

HIDDEN, INNER, HEAD = 64, 64, 32
KEYS, VALUES, FILLER = range(16, 80), range(80, 144), range(144, 512)
VOCAB_SIZE = 512
LENGTH, BATCH, PAIRS, QUESTIONS = 128, 32, 8, 24
LONGEST = 1 << 20
EPSILON = 1e-6


class Norm(nn.Module):
    """Root mean square norm."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], self.weight, EPSILON)


class Layer(nn.Module):
    """One head of attention over `window` tokens (0: all) and a gated block; names as in Qwen3."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window
        self.self_attn = nn.ModuleDict(
            {f"{name}_proj": nn.Linear(HIDDEN, HEAD, bias=False) for name in "qkv"}
            | {"o_proj": nn.Linear(HEAD, HIDDEN, bias=False)}
            | {f"{name}_norm": Norm(HEAD) for name in "qk"}
        )
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(HIDDEN, INNER, bias=False),
                "up_proj": nn.Linear(HIDDEN, INNER, bias=False),
                "down_proj": nn.Linear(INNER, HIDDEN, bias=False),
            }
        )
        self.input_layernorm, self.post_attention_layernorm = Norm(HIDDEN), Norm(HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        own, length = self.self_attn, x.shape[1]
        normed = self.input_layernorm(x)
        q, k = (own[f"{n}_norm"](own[f"{n}_proj"](normed)) for n in "qk")
        seen = torch.ones(length, length, dtype=torch.bool).tril()
        if self.window:
            seen = seen.triu(1 - self.window)
        mixed = functional.scaled_dot_product_attention(q, k, own["v_proj"](normed), seen)
        x = x + own["o_proj"](mixed)
        normed = self.post_attention_layernorm(x)
        gate = functional.silu(self.mlp["gate_proj"](normed)) * self.mlp["up_proj"](normed)
        result: Tensor = x + self.mlp["down_proj"](gate)
        return result


class Finder(nn.Module):
    """Two layers with a tied output matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCAB_SIZE, HIDDEN)
        nn.init.normal_(self.embed_tokens.weight, std=0.3)
        self.layers = nn.ModuleList([Layer(2), Layer(0)])
        self.norm = Norm(HIDDEN)

    def forward(self, tokens: Tensor, asked: Tensor) -> Tensor:
        """Logits [n, vocab] behind the tokens where `asked` is true."""
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return functional.linear(self.norm(x[asked]), self.embed_tokens.weight)


def batch_of(generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Tokens [BATCH, LENGTH], and which of them are asked for."""
    tokens = generator.integers(FILLER.start, FILLER.stop, (BATCH, LENGTH))
    asked = np.zeros((BATCH, LENGTH), bool)
    for row, is_asked in zip(tokens, asked, strict=True):
        keys = generator.choice(KEYS, PAIRS, replace=False)
        values = generator.choice(VALUES, PAIRS)
        half = LENGTH // 4
        places = 2 * generator.choice(half, PAIRS, replace=False)
        row[places], row[places + 1] = keys, values
        places = 2 * generator.choice(np.arange(half, 2 * half), QUESTIONS, replace=False)
        chosen = generator.integers(0, PAIRS, QUESTIONS)
        row[places], row[places + 1] = keys[chosen], values[chosen]
        is_asked[places + 1] = True
    return torch.from_numpy(tokens), torch.from_numpy(asked)


def train(steps: int) -> Finder:
    """Train until `steps` are done; prints how many questions are answered right."""
    torch.manual_seed(5)
    generator, model = np.random.default_rng(5), Finder()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for step in range(steps):
        tokens, asked = batch_of(generator)
        logits, wanted = model(tokens[:, :-1], asked[:, 1:]), tokens[asked]
        loss = functional.cross_entropy(logits, wanted)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            right = (logits.argmax(-1) == wanted).float().mean()
            print(f"step {step + 1}: loss {loss.item():.4f}, {right:.1%} right", flush=True)
    return model


def write(model: Finder, directory: Path) -> None:
    """Write the model as a Qwen3 checkpoint, its second layer sharpened for long texts."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    sharper = math.log(LONGEST) / math.log(LENGTH)
    tensors["model.layers.1.self_attn.q_norm.weight"] *= sharper
    save_file(
        {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()},
        directory / "model.safetensors",
    )
    configuration = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "max_position_embeddings": LONGEST,
        "rms_norm_eps": EPSILON,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 1e12},
        "use_sliding_window": True,
        "sliding_window": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "eos_token_id": 2,
    }
    (directory / "config.json").write_text(json.dumps(configuration, indent=1))
    words = {f"w{i}": i for i in range(VOCAB_SIZE)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(directory / "tokenizer.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    write(train(options.steps), options.directory)


if __name__ == "__main__":
    main()
