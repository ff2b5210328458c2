from dataclasses import replace
from math import prod

import pytest

from banyan.models.configuration import ModelConfiguration
from banyan.models.loading import open_model
from banyan.planner.model_shape import model_shape
from tests.conftest import Checkpoint


@pytest.mark.parametrize("kind", ["llama", "qwen3", "qwen3_moe", "deepseek_v2", "deepseek_v3"])
def test_a_shape_counts_the_numbers_of_the_checkpoint(checkpoint: Checkpoint, kind: str) -> None:
    directory = open_model(str(checkpoint(kind)))
    configuration = directory.configuration
    assert isinstance(configuration, ModelConfiguration)
    shape = model_shape(configuration, kind)
    weights = directory.open_weights()
    counted = [0] * configuration.num_layers
    for name in weights.names():
        if ".layers." in name:
            counted[int(name.split(".layers.")[1].split(".")[0])] += prod(weights.shape(name))
    # Norms of single heads and biases are not counted; they are next to nothing.
    for layer, num_numbers in zip(shape.layers, counted, strict=True):
        assert layer.weights == pytest.approx(num_numbers, rel=0.02)


def test_a_fingerprint_names_shapes_and_dtypes_and_not_the_name(checkpoint: Checkpoint) -> None:
    configuration = open_model(str(checkpoint("llama"))).configuration
    assert isinstance(configuration, ModelConfiguration)
    shape = model_shape(configuration, "one")
    assert shape.fingerprint == replace(shape, name="other").fingerprint
    assert shape.fingerprint != replace(shape, cache_dtype="int8").fingerprint
    assert shape.fingerprint != replace(shape, layers=shape.layers[1:]).fingerprint
