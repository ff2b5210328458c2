"""Grow the seedling to the size of a model whose weights come from memory, word for word the same.

Every unit is repeated `times` times and what reads it is divided by as much, so the larger model
computes the same function (Chen, Goodfellow and Shlens 2016, "Net2Net", arXiv:1511.05641): a
trained model whose text means something, at the cost of a larger one. A power of two loses no bit
but in the order of sums.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_ACROSS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "o_proj", "down_proj")


def grow(source: Path, target: Path, *, times: int) -> Path:
    """Write the grown checkpoint into `target` and return it."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.name not in {"model.safetensors", "config.json"}:
            shutil.copy(file, target)
    config = json.loads((source / "config.json").read_text())
    for name in (
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
    ):
        config[name] *= times
    (target / "config.json").write_text(json.dumps(config, indent=2))
    weights = load_file(source / "model.safetensors")
    grown = {name: _grown(name, weight, times) for name, weight in weights.items()}
    save_file(grown, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _grown(name: str, weight: torch.Tensor, times: int) -> torch.Tensor:
    if any(part in name for part in _ACROSS):
        return (weight.repeat(times, times) / times).contiguous()
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return weight
    if name == "model.norm.weight":
        # The tied embedding reads the last stream once more for each copy.
        return (weight.repeat(times) / times).contiguous()
    if weight.dim() == 2:
        return weight.repeat(1, times).contiguous()
    return weight.repeat(times).contiguous()
