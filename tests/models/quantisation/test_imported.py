"""Checkpoints as hubs have them give the logits of the weights that they stand for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.loading import open_model
from banyan.models.quantisation.scheme import dequantize
from banyan.models.quantized_model import QuantizedModel, quantized_model
from banyan.models.step_graph import decoder_step_graph
from tests.conftest import Checkpoint
from tests.models.quantisation.packers import (
    AWQ,
    FORMATS,
    GPTQ,
    GROUPS,
    Array,
    Format,
    awq,
    change_tensor,
    compressed,
    set_configuration,
    write_pair,
)

LAYER = "model.layers.0.self_attn.q_proj"


def opened(directory: Path, cache: Path, **options: Any) -> QuantizedModel:
    model = open_model(str(directory))
    graph = decoder_step_graph(
        model.decoder_configuration(), dtype="float32", cache_directory=cache
    )
    return quantized_model(model, model.open_weights(), graph, dtype="float32", **options)


def parts_of(model: QuantizedModel, layer: str) -> dict[str, Array]:
    names = [str(node.attr("name")) for node in model.graph.inputs]
    mine = [name for name in names if name.rpartition(".")[0] == layer]
    return {name.rpartition(".")[2]: model.weights.read(name) for name in mine}


@pytest.mark.parametrize("chosen", FORMATS, ids=str)
def test_every_layer_stands_for_its_weight(
    chosen: Format, checkpoint: Checkpoint, tmp_path: Path, program_cache: Path
) -> None:
    quantised, plain = write_pair(checkpoint("llama"), tmp_path, chosen)
    model = opened(quantised, program_cache)
    wanted = opened(plain, program_cache)
    assert model.layers == 14
    model.weights.require(shapes_of(model))
    schemes = dict(model.schemes)
    for layer, scheme in schemes.items():
        found = dequantize(scheme, parts_of(model, layer))
        np.testing.assert_allclose(
            found, wanted.weights.read(f"{layer}.weight"), rtol=1e-6, atol=1e-7, err_msg=layer
        )
        for part in parts_of(model, layer):
            model.weights.release(f"{layer}.{part}")
    ordered = {"gptq-ordered", "gptq-8"}
    assert all(scheme.ordered == (chosen.name in ordered) for scheme in schemes.values())
    assert model.weights.read("lm_head.weight").dtype == np.float32


def shapes_of(model: QuantizedModel) -> dict[str, tuple[int, ...]]:
    return {
        str(node.attr("name")): tuple(d for d in node.shape if isinstance(d, int))
        for node in model.graph.inputs
        if node.attr("role") == "weight"
    }


def test_rows_that_come_in_are_rounded_where_the_checkpoint_says_so_or_the_caller(
    checkpoint: Checkpoint, tmp_path: Path, program_cache: Path
) -> None:
    both = Format(
        "w8a8",
        compressed("int-quantized", {"strategy": "channel"}, rounds=True),
        next(f for f in FORMATS if f.name == "int8").pack,
    )
    quantised, _ = write_pair(checkpoint("llama"), tmp_path, both)
    model = opened(quantised, program_cache)
    assert {scheme.activation for scheme in model.schemes.values()} == {"int8"}
    asked = opened(quantised, program_cache, activation="plain")
    assert {scheme.activation for scheme in asked.schemes.values()} == {"plain"}


@pytest.mark.wide
def test_experts_become_floats_again(
    checkpoint: Checkpoint, tmp_path: Path, program_cache: Path
) -> None:
    """Their inner width of 48 is no multiple of the group, so a channel has one."""
    per_row = Format("awq", {**AWQ, "group_size": -1}, lambda w: awq(w, w.shape[1]))
    quantised, plain = write_pair(checkpoint("qwen3_moe"), tmp_path, per_row)
    model, wanted = opened(quantised, program_cache), opened(plain, program_cache)
    assert len(model.widened) == 6
    name = "model.layers.2.mlp.experts.down_proj.weight"
    assert model.weights.shape(name) == (8, 64, 48)
    np.testing.assert_allclose(model.weights.read(name), wanted.weights.read(name), atol=1e-6)
    model.weights.release(name)
    model.weights.require(shapes_of(model))
    assert model.weights.read("model.layers.0.mlp.gate.weight").shape == (8, 64)


def drop(value: Array) -> None:
    return None


BROKEN: dict[str, tuple[str, str, Callable[[Array], Array | None], str]] = {
    "truncated scales": ("awq", "scales", lambda a: a[:1], r"scales of shape \[1, 64\], not \[2"),
    "missing zeros": ("awq", "qzeros", drop, "lacks qzeros"),
    "words of another type": (
        "gptq",
        "qweight",
        lambda a: a.astype(np.float32),
        "qweight as F32, where I32 is expected",
    ),
    "uneven groups": (
        "gptq-ordered",
        "g_idx",
        np.zeros_like,
        "g_idx that does not put 32 inputs into each group",
    ),
    "scales as integers": (
        "packed",
        "weight_scale",
        lambda a: a.astype(np.int32),
        "weight_scale as I32, where F32 or F16 or BF16 is expected",
    ),
    "short weight": ("packed", "weight_packed", lambda a: a[:, :-1], r"not \[64, 8\]"),
    "missing weight": ("packed", "weight_packed", drop, "lacks weight_packed, which the method"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_layer_is_named(
    case: str, checkpoint: Checkpoint, tmp_path: Path, program_cache: Path
) -> None:
    name, tensor, change, message = BROKEN[case]
    chosen = next(f for f in FORMATS if f.name == name)
    quantised, _ = write_pair(checkpoint("llama"), tmp_path, chosen)
    change_tensor(quantised, f"{LAYER}.{tensor}", change)
    with pytest.raises(ModelError, match=message) as caught:
        opened(quantised, program_cache)
    assert f"layer {LAYER} in" in str(caught.value)


def test_groups_that_do_not_divide_the_width_are_told_before_anything_is_read(
    checkpoint: Checkpoint, tmp_path: Path, program_cache: Path
) -> None:
    quantised, _ = write_pair(checkpoint("llama"), tmp_path, FORMATS[0])
    set_configuration(quantised, {**AWQ, "group_size": 48})
    with pytest.raises(ModelError, match="is 64 x 64, which groups of 48 do not divide"):
        opened(quantised, program_cache)


def test_scales_of_other_blocks_are_refused(
    checkpoint: Checkpoint, tmp_path: Path, program_cache: Path
) -> None:
    chosen = next(f for f in FORMATS if f.name == "fp8-blocks")
    quantised, _ = write_pair(checkpoint("llama"), tmp_path, chosen)
    set_configuration(quantised, {**chosen.configuration, "weight_block_size": [16, 40]})
    with pytest.raises(ModelError, match=r"weight_scale_inv of shape \[2, 2\], not \[4, 2\]"):
        opened(quantised, program_cache)


def test_layers_stored_in_another_way_than_the_configuration_says_are_named(
    checkpoint: Checkpoint, tmp_path: Path, program_cache: Path
) -> None:
    quantised, plain = write_pair(checkpoint("llama"), tmp_path, FORMATS[0])
    set_configuration(quantised, {**AWQ, "modules_to_not_convert": ["self_attn"]})
    with pytest.raises(ModelError, match=r"q_proj in .* configuration leaves it as it is"):
        opened(quantised, program_cache)
    set_configuration(quantised, compressed("pack-quantized", GROUPS))
    with pytest.raises(ModelError, match=r"lacks weight_packed, .* stores; found qweight"):
        opened(quantised, program_cache)
    set_configuration(plain, AWQ)
    with pytest.raises(ModelError, match="says awq, but no layer is stored quantised"):
        opened(plain, program_cache)


def test_a_layer_stored_twice_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, program_cache: Path
) -> None:
    quantised, _ = write_pair(checkpoint("llama"), tmp_path, FORMATS[0])
    file = quantised / "model.safetensors"
    doubled = load_file(file) | {f"{LAYER}.weight": np.ones((64, 64), np.float32)}
    save_file(doubled, file)
    with pytest.raises(ModelError, match="stored twice, as weight and as qweight"):
        opened(quantised, program_cache)


WITHOUT_FORMAT = {name: value for name, value in GPTQ.items() if name != "checkpoint_format"}
TURNED = {"transform_config": {"config_groups": {"R1": {"type": "hadamard"}}}}


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"quant_method": "aqlm"}, "quantised with 'aqlm'; known are awq, gptq, compressed-te"),
        ({"bits": 4}, "names no 'quant_method'"),
        ({**AWQ, "version": "gemv"}, "version 'gemv'; supported are gemm"),
        ({**AWQ, "bits": 3}, "awq has 'bits' 3"),
        ({**GPTQ, "bits": 2}, "gptq has 'bits' 2"),
        ({**GPTQ, "checkpoint_format": "marlin"}, "checkpoint_format 'marlin'"),
        ({**WITHOUT_FORMAT, "format": "marlin"}, "format 'marlin'"),
        ({**AWQ, "modules_to_not_convert": ["re:*head"]}, "holds 're:[*]head', which is no patt"),
        ({**compressed("pack-quantized", GROUPS), **TURNED}, "weights that were turned"),
        ({**GPTQ, "dynamic": {"-:lm_head": {}}}, "settings of their own"),
        ({**GPTQ, "group_size": "many"}, "'group_size' must be an integer"),
        (compressed("nvfp4-pack-quantized", GROUPS), "format 'nvfp4-pack-quantized'"),
        (compressed("pack-quantized", {**GROUPS, "num_bits": 3}), "int weights of 3 bits"),
        (compressed("int-quantized", {"strategy": "tensor_group"}), "strategy 'tensor_group'"),
        ({"quant_method": "compressed-tensors", "format": "int-quantized"}, "'config_groups'"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "must be two sizes"),
    ],
)
def test_what_is_not_known_is_refused_by_name(
    configuration: dict[str, Any], message: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    quantised, _ = write_pair(checkpoint("llama"), tmp_path, FORMATS[0])
    set_configuration(quantised, configuration)
    with pytest.raises((ModelError, UnsupportedModelError), match=message):
        open_model(str(quantised))
