"""Checkpoints in the formats of hubs, written bit by bit from their descriptions.

Each packer takes a weight [N, K] and gives the tensors of the layer and the float32 weight that
they stand for. Nothing here shares code with the importers.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = dict[str, Array]
Packer = Callable[[Array], tuple[Tensors, Array]]
GROUP = 32
FP8 = ml_dtypes.float8_e4m3fn


def words(values: Array, order: tuple[int, ...] = tuple(range(8)), bits: int = 4) -> Array:
    """[..., n] values to [..., n * bits / 32] int32; part i of a word is value order[i]."""
    per_word = 32 // bits
    result = np.zeros((*values.shape[:-1], values.shape[-1] // per_word), np.uint32)
    for place, number in enumerate(order[:per_word]):
        result |= values[..., number::per_word].astype(np.uint32) << np.uint32(place * bits)
    return result.view(np.int32)


def rounded(
    weight: Array, group: int, *, bits: int = 4, symmetric: bool = False
) -> tuple[Array, Array, Array, Array]:
    """Unsigned numbers [N, K], scales and zeros [N, G], and what they stand for; scales are f16."""
    top = 2**bits - 1
    split = weight.reshape(weight.shape[0], -1, group)
    low, high = np.minimum(split.min(-1), 0), np.maximum(split.max(-1), 0)
    if symmetric:
        scales = (2 * np.maximum(-low, high) / top).astype(np.float16).astype(np.float32)
        zeros = np.full(scales.shape, 2 ** (bits - 1), np.float32)
    else:
        scales = ((high - low) / top).astype(np.float16).astype(np.float32)
        zeros = np.clip(np.rint(-low / scales), 1, top)
    numbers = np.clip(np.rint(split / scales[..., None]) + zeros[..., None], 0, top)
    meant = (numbers - zeros[..., None]) * scales[..., None]
    return (
        numbers.reshape(weight.shape).astype(np.uint8),
        scales,
        zeros,
        meant.reshape(weight.shape),
    )


def awq(weight: Array, group: int = GROUP) -> tuple[Tensors, Array]:
    numbers, scales, zeros, meant = rounded(weight, group)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    tensors = {
        "qweight": words(numbers.T, order),
        "qzeros": words(zeros.T.astype(np.uint8), order),
        "scales": scales.T.astype(np.float16),
    }
    return tensors, meant


def gptq(weight: Array, *, ordered: bool, less: int, bits: int = 4) -> tuple[Tensors, Array]:
    depth = weight.shape[1]
    groups = np.arange(depth) // GROUP
    if ordered:
        groups = np.random.default_rng(3).permutation(groups)
    order = np.argsort(groups, kind="stable")
    numbers, scales, zeros, meant = rounded(weight[:, order], GROUP, bits=bits, symmetric=bits == 8)
    back = np.argsort(order)
    tensors = {
        "qweight": words(numbers[:, back], bits=bits).T,
        "qzeros": words((zeros - less).T.astype(np.uint8), bits=bits),
        "scales": scales.T.astype(np.float16),
        "g_idx": groups.astype(np.int32),
    }
    # The words of the weight run along the inputs: [K / 8, N].
    return tensors, meant[:, back]


def packed(
    weight: Array, *, symmetric: bool, group: int, old: bool = False
) -> tuple[Tensors, Array]:
    group = group or weight.shape[1]
    numbers, scales, zeros, meant = rounded(weight, group, symmetric=symmetric)
    tensors = {
        "weight_packed": words(numbers),
        "weight_scale": scales.astype(np.float16),
        "weight_shape": np.array(weight.shape, np.int64),
    }
    if not symmetric:
        along_rows = words(np.ascontiguousarray(zeros.T).astype(np.uint8)).T
        signed = (zeros - 8).astype(np.int8)
        tensors["weight_zero_point"] = signed if old else along_rows
    return tensors, meant


def packed8(weight: Array) -> tuple[Tensors, Array]:
    numbers, scales, _, meant = rounded(weight, weight.shape[1], bits=8, symmetric=True)
    return {"weight_packed": words(numbers, bits=8), "weight_scale": scales}, meant


def int8(weight: Array) -> tuple[Tensors, Array]:
    scales = np.abs(weight).max(-1, keepdims=True).astype(np.float32) / 127
    numbers = np.rint(weight / scales)
    tensors = {"weight": numbers.astype(np.int8), "weight_scale": scales.astype(np.float32)}
    return tensors, numbers * scales


def fp8_tensor(weight: Array) -> tuple[Tensors, Array]:
    scale = np.float32(np.abs(weight).max() / 448)
    numbers = (weight / scale).astype(FP8)
    tensors = {
        "weight": numbers,
        "weight_scale": np.array(scale, np.float32),
        "input_scale": np.array(0.5, np.float32),
    }
    return tensors, numbers.astype(np.float32) * scale


def fp8_channel(weight: Array) -> tuple[Tensors, Array]:
    scales = np.abs(weight).max(-1, keepdims=True).astype(np.float32) / 448
    numbers = (weight / scales).astype(FP8)
    return {"weight": numbers, "weight_scale": scales}, numbers.astype(np.float32) * scales


def fp8_blocks(weight: Array, *, rows: int = 48, columns: int = 40) -> tuple[Tensors, Array]:
    down, across = -(-weight.shape[0] // rows), -(-weight.shape[1] // columns)
    scales = np.random.default_rng(1).uniform(0.001, 0.01, (down, across)).astype(np.float32)
    grown = np.kron(scales, np.ones((rows, columns), np.float32))
    grown = grown[: weight.shape[0], : weight.shape[1]]
    numbers = np.clip(weight / grown, -448, 448).astype(FP8)
    return {"weight": numbers, "weight_scale_inv": scales}, numbers.astype(np.float32) * grown


@dataclass(frozen=True)
class Format:
    """A format: what config.json says of it, and its packer."""

    name: str
    configuration: dict[str, Any]
    pack: Packer

    def __str__(self) -> str:
        return self.name


def compressed(layout: str, weights: dict[str, Any], *, rounds: bool = False) -> dict[str, Any]:
    """The `quantization_config` of compressed-tensors."""
    inputs = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
    group = {
        "targets": ["Linear"],
        "weights": {"symmetric": True, "type": "int", "dynamic": False, **weights},
        "input_activations": inputs if rounds else None,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", "re:.*mlp.gate$"],
        "quantization_status": "compressed",
    }


AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": False, "desc_act": False}
GROUPS = {"num_bits": 4, "strategy": "group", "group_size": GROUP}
FORMATS = (
    Format("awq", AWQ, awq),
    Format("gptq", GPTQ, lambda w: gptq(w, ordered=False, less=1)),
    Format(
        "gptq-ordered",
        {**GPTQ, "desc_act": True, "checkpoint_format": "gptq_v2"},
        lambda w: gptq(w, ordered=True, less=0),
    ),
    Format(
        "gptq-8",
        {**GPTQ, "bits": 8, "sym": True},
        lambda w: gptq(w, ordered=True, less=1, bits=8),
    ),
    Format(
        "packed",
        compressed("pack-quantized", GROUPS),
        lambda w: packed(w, symmetric=True, group=GROUP),
    ),
    Format(
        "packed-zeros",
        compressed("pack-quantized", {**GROUPS, "symmetric": False}),
        lambda w: packed(w, symmetric=False, group=GROUP),
    ),
    Format(
        "packed-old-zeros",
        compressed("pack-quantized", {"num_bits": 4, "strategy": "channel", "symmetric": False}),
        lambda w: packed(w, symmetric=False, group=0, old=True),
    ),
    Format("packed-8", compressed("pack-quantized", {"strategy": "channel"}), packed8),
    Format("int8", compressed("int-quantized", {"strategy": "channel"}), int8),
    Format(
        "fp8-channel",
        compressed("float-quantized", {"type": "float", "strategy": "channel"}),
        fp8_channel,
    ),
    Format("fp8", {"quant_method": "fp8", "activation_scheme": "static"}, fp8_tensor),
    Format(
        "fp8-blocks",
        {"quant_method": "fp8", "weight_block_size": [48, 40], "activation_scheme": "dynamic"},
        fp8_blocks,
    ),
)
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def _group(targets: str, layout: str, **weights: Any) -> dict[str, Any]:
    return {
        "targets": [targets],
        "format": layout,
        "weights": {"symmetric": True, "type": "int", "strategy": "channel", **weights},
    }


_BLOCKS = {"type": "float", "strategy": "block", "block_structure": [48, 40]}
MIXED_PACKERS: dict[str, Packer] = {
    "q_proj": lambda w: packed(w, symmetric=True, group=GROUP),
    "k_proj": lambda w: packed(w, symmetric=True, group=GROUP),
    "v_proj": lambda w: packed(w, symmetric=False, group=GROUP),
    "o_proj": int8,
    "gate_proj": fp8_channel,
    "up_proj": fp8_blocks,
    "down_proj": packed8,
}
MIXED = Format(
    "mixed",
    {
        "quant_method": "compressed-tensors",
        "format": "mixed-precision",
        "config_groups": {
            "a": _group("re:.*[.][qk]_proj", "pack-quantized", **GROUPS),
            "b": _group("v_proj", "pack-quantized", **{**GROUPS, "symmetric": False}),
            "c": _group("o_proj", "int-quantized"),
            "d": _group("gate_proj", "float-quantized", type="float"),
            "e": _group("up_proj", "float-quantized", **_BLOCKS),
            "f": _group("down_proj", "pack-quantized"),
        },
        "ignore": ["lm_head"],
    },
    int8,
)
"""Nearly every kind of layer in one checkpoint."""


def write_pair(source: Path, target: Path, chosen: Format) -> tuple[Path, Path]:
    """Write the quantised copy of a plain checkpoint, and the plain copy of what it stands for."""
    quantised, plain = target / "quantised", target / "plain"
    stored: Tensors = {}
    meant: Tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        if layer.rpartition(".")[2] not in LAYERS:
            stored[name] = meant[name] = tensor
            continue
        pack = MIXED_PACKERS[layer.rpartition(".")[2]] if chosen is MIXED else chosen.pack
        parts, meant[name] = pack(tensor)
        stored |= {f"{layer}.{part}": np.ascontiguousarray(value) for part, value in parts.items()}
    for directory, tensors in ((quantised, stored), (plain, meant)):
        shutil.copytree(source, directory)
        kept = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        save_file(kept, directory / "model.safetensors")
    set_configuration(quantised, chosen.configuration)
    return quantised, plain


def set_configuration(directory: Path, configuration: dict[str, Any]) -> None:
    """Write `quantization_config` into config.json."""
    path = directory / "config.json"
    fields = json.loads(path.read_text()) | {"quantization_config": configuration}
    path.write_text(json.dumps(fields))


def change_tensor(directory: Path, name: str, change: Callable[[Array], Array | None]) -> None:
    """Replace one tensor of a checkpoint; None takes it away."""
    tensors = load_file(directory / "model.safetensors")
    new = change(tensors.pop(name))
    if new is not None:
        tensors[name] = np.ascontiguousarray(new)
    save_file(tensors, directory / "model.safetensors")
