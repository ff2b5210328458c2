"""Towers as graphs, run by the interpreter, against those of transformers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from banyan.compiler.interpreted import InterpretedGraph
from banyan.compiler.ir.graph import Graph
from banyan.compiler.report import graph_report
from banyan.engine.vision.runner import VisionRunner
from banyan.models.loading import open_model
from banyan.models.vision.loading import VisionModel, open_vision
from banyan.models.vision.tower_graph import vision_tower_graph
from tests.models.vision.pictures import file_of
from tests.models.vision.test_processing import noise
from tests.models.vision_checkpoints import KINDS, make_vision_checkpoint

# Float32 on both sides, sums of at most 128 terms behind three layers.
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=KINDS)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vision_checkpoint(request.param, tmp_path_factory.mktemp(request.param))


def opened(directory: Path) -> VisionModel:
    vision = open_vision(directory)
    assert vision is not None
    return vision


def runner(vision: VisionModel, graph: Graph) -> VisionRunner:
    program = InterpretedGraph(graph, graph_report(graph, graph, "interpreter", "NumPy"))
    program.load_weights(vision.open_weights())
    return VisionRunner(program, vision)


def reference(directory: Path, patches: Any, grid: tuple[int, int, int]) -> Any:
    architecture = json.loads((directory / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, architecture).from_pretrained(directory).eval()
    pixels = torch.from_numpy(np.ascontiguousarray(patches))
    with torch.no_grad():
        if architecture.startswith("Llava"):
            square = pixels.reshape(6, 6, 3, 4, 4).permute(2, 0, 3, 1, 4).reshape(1, 3, 24, 24)
            return model.get_image_features(pixel_values=square).pooler_output[0].numpy()
        features = model.get_image_features(pixels, torch.tensor([grid]))
        return features.pooler_output[0].numpy()


def test_rows_are_those_of_transformers_for_images_of_any_size(
    directory: Path, program_cache: Path
) -> None:
    vision = opened(directory)
    graph = vision_tower_graph(vision.tower, dtype="float32", cache_directory=program_cache)
    assert [node for node in graph.nodes() if node.op == "extern"] == []
    eyes = runner(vision, graph)
    # One smaller than a window, and some that reach over the edges of windows.
    for size in ((16, 16), (64, 40), (23, 57)):
        prepared = eyes.prepare(file_of(noise(*size)))
        rows = eyes.encode(prepared)
        expected = reference(directory, prepared.patches, prepared.grid)
        assert rows.shape == (prepared.num_tokens, 64)
        assert np.abs(rows - expected).max() <= TOLERANCE * np.abs(expected).max()


_RENAMED = (
    ("visual.", "model.visual."),
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model.language_model."),
    ("vision_tower.", "model.vision_tower.vision_model."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    ("model.", "model.language_model."),
)


def newest(name: str) -> str:
    for stored, renamed in _RENAMED:
        if name.startswith(stored):
            return renamed + name.removeprefix(stored)
    return name


def test_the_weights_of_the_other_layout_are_the_same(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(directory, other)
    tensors = load_file(directory / "model.safetensors")
    renamed = {newest(name): tensor for name, tensor in tensors.items()}
    assert not set(tensors) - {"lm_head.weight"} & set(renamed)
    save_file(renamed, other / "model.safetensors")
    for model in (open_model(str(directory)), open_model(str(other))):
        assert set(model.open_weights().names()) == set(
            open_model(str(directory)).open_weights().names()
        )
    mine, theirs = opened(directory).open_weights(), opened(other).open_weights()
    for name in mine.names():
        assert mine.shape(name) == theirs.shape(name)
        np.testing.assert_array_equal(mine.read(name), theirs.read(name))
