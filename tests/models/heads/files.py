"""Small heads in the published layouts, with weights from a seed."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file


def write_medusa(
    directory: Path,
    *,
    hidden_size: int,
    vocab_size: int,
    num_heads: int = 3,
    num_layers: int = 1,
    boldness: float = 0.1,
) -> Path:
    """Write Medusa heads in float32; with a `boldness` of 1 they are sure of what they guess."""
    torch.manual_seed(5)
    directory.mkdir(parents=True, exist_ok=True)
    weights = {}
    for head in range(num_heads):
        for block in range(num_layers):
            weights[f"{head}.{block}.linear.weight"] = torch.randn(hidden_size, hidden_size) * 0.1
            weights[f"{head}.{block}.linear.bias"] = torch.randn(hidden_size)
        weights[f"{head}.{num_layers}.weight"] = torch.randn(vocab_size, hidden_size) * boldness
    save_file(weights, directory / "medusa_lm_head.safetensors")
    own = {"medusa_num_heads": num_heads, "medusa_num_layers": num_layers}
    (directory / "config.json").write_text(json.dumps(own))
    return directory


def write_eagle(directory: Path, base: Path, *, has_bias: bool = True) -> Path:
    """Write an EAGLE head of one layer in float32, of the sizes of a Llama checkpoint."""
    torch.manual_seed(6)
    directory.mkdir(parents=True, exist_ok=True)
    fields = json.loads((base / "config.json").read_text())
    fields |= {"num_hidden_layers": 1, "layer_types": None}
    (directory / "config.json").write_text(json.dumps(fields))
    size, inner = fields["hidden_size"], fields["intermediate_size"]
    head_size = fields.get("head_dim") or size // fields["num_attention_heads"]
    queries = fields["num_attention_heads"] * head_size
    keys = fields["num_key_value_heads"] * head_size
    shapes = {
        "fc.weight": (size, 2 * size),
        "layers.0.self_attn.q_proj.weight": (queries, size),
        "layers.0.self_attn.k_proj.weight": (keys, size),
        "layers.0.self_attn.v_proj.weight": (keys, size),
        "layers.0.self_attn.o_proj.weight": (size, queries),
        "layers.0.post_attention_layernorm.weight": (size,),
        "layers.0.mlp.gate_proj.weight": (inner, size),
        "layers.0.mlp.up_proj.weight": (inner, size),
        "layers.0.mlp.down_proj.weight": (size, inner),
        # A copy, as published files hold; never read.
        "embed_tokens.weight": (fields["vocab_size"], size),
    }
    if has_bias:
        shapes["fc.bias"] = (size,)
    weights = {name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}
    save_file(weights, directory / "model.safetensors")
    return directory
