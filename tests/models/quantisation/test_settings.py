"""What a configuration says of single layers."""

from typing import Any

import pytest

from banyan.foundation.errors import ModelError
from banyan.models.json_fields import Fields
from banyan.models.quantisation.importers.layer import LayerReader
from banyan.models.quantisation.settings import parse_quantisation
from banyan.models.weights import CheckpointWeights
from tests.conftest import Checkpoint

DOWN = "model.layers.0.mlp.down_proj"
UP = "model.layers.0.mlp.up_proj"


def group(targets: list[str], size: int) -> dict[str, Any]:
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": size}
    return {"targets": targets, "weights": weights}


def test_a_layers_own_name_goes_before_patterns_and_those_before_all_layers() -> None:
    groups = {
        "all": group(["Linear"], 128),
        "pattern": group(["re:.*_proj"], 64),
        "name": group([DOWN], 32),
    }
    fields = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": groups,
    }
    settings = parse_quantisation(Fields(fields, "config.json"))
    sizes = {}
    for layer in (DOWN, UP, "model.layers.0.mixer"):
        found = settings.of_layer(layer)
        assert found is not None
        sizes[layer] = found.group
    assert sizes == {DOWN: 32, UP: 64, "model.layers.0.mixer": 128}


@pytest.mark.parametrize("field", ["checkpoint_format", "format"])
def test_zeros_of_the_second_gptq_format_are_kept_under_either_name_of_the_field(
    field: str,
) -> None:
    fields = {"quant_method": "gptq", "bits": 4, "group_size": 32, field: "gptq_v2"}
    found = parse_quantisation(Fields(fields, "config.json")).of_layer(DOWN)
    assert found is not None
    assert not found.old_zeros


def test_an_odd_width_in_4_bits_is_refused(checkpoint: Checkpoint) -> None:
    fields = {"quant_method": "awq", "bits": 4, "group_size": -1}
    settings = parse_quantisation(Fields(fields, "config.json")).of_layer(DOWN)
    assert settings is not None
    weights = CheckpointWeights(checkpoint("llama"))
    with pytest.raises(ModelError, match="is 8 x 33 with two 4-bit weights in a byte"):
        LayerReader(weights, DOWN, 8, 33, settings).groups()
    assert LayerReader(weights, DOWN, 8, 34, settings).groups() == (34, 1)
