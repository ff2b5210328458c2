"""A Qwen3 checkpoint of any shape with random weights: for what is timed, not read."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

SEEDLING = Path(__file__).parent.parent / "models" / "seedling"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Numbers of a decoder."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int = 64
    vocab: int = 4096


def write_model(target: Path, size: ModelSize, *, dtype: str = "bfloat16") -> Path:
    """Write a checkpoint with the seedling's tokenizer into `target`, and return it."""
    target.mkdir(parents=True, exist_ok=True)
    for file in SEEDLING.iterdir():
        if file.name not in {"model.safetensors", "config.json"}:
            shutil.copy(file, target)
    config = json.loads((SEEDLING / "config.json").read_text())
    config |= {
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "vocab_size": size.vocab,
        "num_hidden_layers": size.layers,
        "layer_types": ["full_attention"] * size.layers,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
    (target / "config.json").write_text(json.dumps(config, indent=2))
    kind = getattr(torch, dtype)
    torch.manual_seed(0)
    weights = {
        name: torch.ones(shape, dtype=kind)
        if len(shape) == 1
        else (torch.randn(shape) * shape[1] ** -0.5).to(kind)
        for name, shape in _shapes(size).items()
    }
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _shapes(size: ModelSize) -> dict[str, tuple[int, ...]]:
    hidden, query, pair = size.hidden, size.heads * size.head_dim, size.kv_heads * size.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (size.vocab, hidden),
        "model.norm.weight": (hidden,),
    }
    for number in range(size.layers):
        layer = f"model.layers.{number}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
            f"{layer}.self_attn.q_proj.weight": (query, hidden),
            f"{layer}.self_attn.k_proj.weight": (pair, hidden),
            f"{layer}.self_attn.v_proj.weight": (pair, hidden),
            f"{layer}.self_attn.o_proj.weight": (hidden, query),
            f"{layer}.self_attn.q_norm.weight": (size.head_dim,),
            f"{layer}.self_attn.k_norm.weight": (size.head_dim,),
            f"{layer}.mlp.gate_proj.weight": (size.intermediate, hidden),
            f"{layer}.mlp.up_proj.weight": (size.intermediate, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, size.intermediate),
        }
    return shapes
