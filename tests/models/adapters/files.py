"""Adapters in the format of PEFT, small and seeded, written as a person would have them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from banyan.models.adapters.targets import known_targets
from banyan.models.configuration import ModelConfiguration

ALL_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def tensor_name(layer: int, path: str, half: str) -> str:
    """The name that PEFT gives to one half."""
    return f"base_model.model.model.layers.{layer}.{path}.lora_{half}.weight"


def make_tensors(
    configuration: ModelConfiguration,
    *,
    rank: int = 4,
    modules: tuple[str, ...] = ALL_MODULES,
    seed: int = 0,
    size: float = 0.3,
) -> dict[str, np.ndarray[Any, Any]]:
    """Both halves of every chosen layer, normal numbers of standard deviation `size`."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for (layer, path), target in known_targets(configuration).items():
        if target.module in modules:
            shapes = {"A": (rank, target.inputs), "B": (target.outputs, rank)}
            for half, shape in shapes.items():
                array = generator.normal(0, size, shape).astype(np.float32)
                tensors[tensor_name(layer, path, half)] = array
    return tensors


def settings_of(rank: int = 4, modules: tuple[str, ...] = ALL_MODULES) -> dict[str, Any]:
    """A configuration as PEFT writes it, with alpha twice the rank."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "some/base",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.1,
        "bias": "none",
        "target_modules": list(modules),
        "inference_mode": True,
        "use_dora": False,
        "use_rslora": False,
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "rank_pattern": {},
        "alpha_pattern": {},
    }


def write_adapter(
    directory: Path,
    tensors: Mapping[str, np.ndarray[Any, Any]],
    settings: Mapping[str, Any],
) -> Path:
    """Write the two files of an adapter."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(dict(tensors), directory / "adapter_model.safetensors")
    return directory


def make_adapter(
    directory: Path,
    configuration: ModelConfiguration,
    *,
    rank: int = 4,
    modules: tuple[str, ...] = ALL_MODULES,
    seed: int = 0,
    size: float = 0.3,
) -> Path:
    """Write a whole adapter for a decoder."""
    tensors = make_tensors(configuration, rank=rank, modules=modules, seed=seed, size=size)
    return write_adapter(directory, tensors, settings_of(rank, modules))
