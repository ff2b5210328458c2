"""The count from a shape against the count from the captured graph of the same model."""

from pathlib import Path

import pytest

from banyan.models.configuration import ModelConfiguration, read_configuration
from banyan.models.step_capture import capture_decoder_step
from banyan.planner.costs import Part, decode_step, prefill_step
from banyan.planner.model_shape import model_shape
from banyan.planner.prediction.graph_work import graph_work
from banyan.planner.prediction.shape_work import shape_work
from banyan.planner.prediction.work import step_sizes
from tests.models.checkpoints import make_checkpoint
from tests.planner.shapes import dense_model


@pytest.mark.parametrize("kind", ["llama", "qwen3", "qwen3_moe"])
def test_a_shape_tells_the_work_of_the_captured_graph(kind: str, tmp_path: Path) -> None:
    configuration = read_configuration(make_checkpoint(kind, tmp_path))
    assert isinstance(configuration, ModelConfiguration)
    graph = capture_decoder_step(configuration, dtype="float32", cache_format="float32")
    counted = graph_work(graph)
    shape = model_shape(
        configuration,
        kind,
        weight_dtype="float32",
        cache_dtype="float32",
        compute_dtype="float32",
    )
    told, whole = shape_work(shape), Part(0, configuration.num_layers)
    assert counted.num_layers == told.num_layers
    for step in (decode_step(4, 100), prefill_step(64)):
        sizes = step_sizes(step)
        assert told.operations(whole, sizes) == counted.operations(whole, sizes)
        assert told.num_bytes(whole, sizes) == pytest.approx(
            counted.num_bytes(whole, sizes), rel=0.1
        )
    assert told.weight_bytes(whole) == pytest.approx(counted.weight_bytes(whole), rel=1e-3)
    assert told.cache_bytes_per_token(whole) == counted.cache_bytes_per_token(whole)


def test_layers_of_a_shape_are_as_heavy_as_it_says() -> None:
    model = dense_model(3)
    held = shape_work(model).weight_bytes(Part(1, 2))
    assert held == pytest.approx(model.layers[1].weights * 2, rel=0.01)
