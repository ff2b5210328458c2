"""Whole models, printed as Triton and interpreted, against the oracle."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.interpreter import run_graph
from banyan.devices.discovery import find_device
from banyan.foundation.settings import Settings
from banyan.models.loading import open_model
from banyan.models.step_graph import encoder_graph
from tests.compiler.targets.triton.running import TOLERANCE
from tests.compiler.zoo.changed_models import CHANGED
from tests.compiler.zoo.comparing import TOLERANCES, compare
from tests.compiler.zoo.models import MODELS
from tests.conftest import Checkpoint
from tests.models.checkpoints import DECODER_KINDS
from tests.models.test_step_graph import (
    NUM_BLOCKS,
    empty_states,
    step_arguments,
    step_graph_of,
    weights_of,
)


def assert_serves(graph: Graph, directory: Path, arrays: dict[str, Any], cache: Path) -> None:
    """The first output is that of the oracle, through the front door as any device."""
    model = open_model(str(directory))
    device = find_device("triton", settings=Settings(cache_directory=cache))
    program = compile_graph(graph, device=device, options=CompileOptions(cache))
    program.load_weights(model.open_weights())
    program.allocate_state({"num_blocks": NUM_BLOCKS} if empty_states(graph) else {})
    name = graph.outputs[0].name
    found = np.asarray(program.run(arrays)[name], np.float64)
    given = {**weights_of(graph, model), **empty_states(graph), **arrays}
    wanted = np.asarray(run_graph(graph, given)[name], np.float64)
    narrow = any(n.dtype is DType.BFLOAT16 for n in graph.inputs if n.attr("role") == "weight")
    bound = TOLERANCE[DType.BFLOAT16 if narrow else DType.FLOAT32]
    assert np.abs(found - wanted).max() <= bound * np.abs(wanted).max()
    device.close()


@pytest.mark.wide
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", DECODER_KINDS)
def test_a_step_of_every_decoder_gives_the_logits_of_the_oracle(
    kind: str, dtype: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    directory = checkpoint(kind, dtype=dtype)
    graph = step_graph_of(directory, dtype)
    assert_serves(graph, directory, step_arguments(), tmp_path)


@pytest.mark.wide
def test_an_encoder_gives_the_vectors_of_the_oracle(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = checkpoint("bert")
    graph = encoder_graph(open_model(str(directory)).encoder_configuration(), dtype="float32")
    arguments = {
        "token_ids": np.arange(12).reshape(2, 6) + 4,
        "attention_mask": np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
        "token_types": np.zeros((2, 6), np.int64),
    }
    assert_serves(graph, directory, arguments, tmp_path)


BY_NAME = {model.name: model for model in (*MODELS, *CHANGED)}


@pytest.mark.wide
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", list(BY_NAME))
def test_models_of_others_agree_with_pytorch(name: str, dtype: torch.dtype) -> None:
    found = compare(BY_NAME[name], "triton", dtype, device="triton")
    assert found.report.externs == ()
    assert max(found.errors.values()) <= TOLERANCES[dtype], found.errors
