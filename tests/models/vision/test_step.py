"""The step of a decoder that takes rows of images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from banyan.compiler.ir.types import DType
from banyan.models.configuration import ModelConfiguration, read_configuration
from banyan.models.decoder import with_image_rows
from banyan.models.rope import Rope
from banyan.models.rotary import Rotary
from banyan.models.step_graph import decoder_step_graph
from tests.models.vision_checkpoints import make_vision_checkpoint


@pytest.mark.parametrize(("kind", "axes"), [("qwen2_vl", [3]), ("llava", [])])
def test_a_step_takes_rows_of_images_behind_the_arguments_of_others(
    kind: str, axes: list[int], tmp_path: Path, program_cache: Path
) -> None:
    configuration = read_configuration(make_vision_checkpoint(kind, tmp_path / kind))
    assert isinstance(configuration, ModelConfiguration)
    graph = decoder_step_graph(configuration, dtype="float32", cache_directory=program_cache)
    arguments = {
        str(node.attr("name")): node for node in graph.inputs if node.attr("role") == "argument"
    }
    assert list(arguments)[-3:] == ["logit_rows", "image_rows", "image_index"]
    tokens = arguments["token_ids"].shape
    assert arguments["positions"].shape == (*axes, *tokens)
    assert arguments["image_index"].shape == tokens
    assert arguments["image_index"].dtype is DType.INT32
    rows = arguments["image_rows"]
    assert rows.shape[1] == 64
    assert rows.dtype is graph.outputs[0].node.dtype
    assert [node for node in graph.nodes() if node.op == "extern"] == []


def test_rows_stand_in_where_there_is_an_index() -> None:
    hidden = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    rows = torch.tensor([[7.0, 8.0], [9.0, 10.0]])
    index = torch.tensor([1, -1, 0], dtype=torch.int32)
    assert with_image_rows(hidden, rows, index).tolist() == [[9.0, 10.0], [2.0, 2.0], [7.0, 8.0]]


def test_each_pair_is_turned_by_the_axis_of_its_section() -> None:
    plain, split = Rotary(Rope(100.0), 8), Rotary(Rope(100.0, sections=(1, 2, 1)), 8)
    axes = torch.tensor([[3, 0], [5, 1], [70_000, 2]])
    cosine, sine = split(axes)
    for pair, axis in enumerate([0, 1, 1, 2]):
        expected = plain(axes[axis])
        # To the bit: the other axes add nothing but zeros.
        np.testing.assert_array_equal(cosine[..., pair], expected[0][..., pair])
        np.testing.assert_array_equal(sine[..., pair], expected[1][..., pair])
