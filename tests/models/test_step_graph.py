"""The captured graphs, run by the interpreter, against the eager modules."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.models.loading import ModelDirectory, open_model
from banyan.models.reference import load_decoder, load_encoder, reference_logits
from banyan.models.step_graph import decoder_step_graph, encoder_graph
from tests.conftest import PROGRAM_CACHE, Checkpoint

# Together they have every part that the graph of a decoder can have.
KINDS = ("llama_tied", "qwen2", "qwen3_moe", "mixtral", "deepseek_v2", "deepseek_v3")

FIRST, SECOND = list(range(5, 45)), list(range(90, 100))
NUM_BLOCKS = 6


@cache
def step_graph_of(directory: Path, dtype: str, form: str | None = None) -> Graph:
    configuration = open_model(str(directory)).decoder_configuration()
    return decoder_step_graph(
        configuration, dtype=dtype, cache_format=form, cache_directory=PROGRAM_CACHE
    )


def names_of(graph: Graph, role: str) -> list[str]:
    return [str(node.attr("name")) for node in graph.inputs if node.attr("role") == role]


def weights_of(graph: Graph, model: ModelDirectory) -> dict[str, Any]:
    weights = model.open_weights()
    return {name: weights.read(name) for name in names_of(graph, "weight")}


def empty_states(graph: Graph) -> dict[str, Any]:
    states = {}
    for node in graph.inputs:
        if node.attr("role") == "state":
            shape = (NUM_BLOCKS, *(int(size) for size in node.shape[1:] if isinstance(size, int)))
            states[str(node.attr("name"))] = np.zeros(shape, node.dtype.numpy)
    return states


def step_arguments() -> dict[str, NDArray[Any]]:
    """Two prompts in one step; the second lies in block 0, the first in blocks 5, 1 and 3."""
    return {
        "token_ids": np.array([*FIRST, *SECOND]),
        "positions": np.array([*range(40), *range(10)]),
        "slots": np.array([*range(80, 96), *range(16, 32), *range(48, 56), *range(10)]),
        "block_tables": np.array([[5, 1, 3], [0, 0, 0]], np.int32),
        "query_starts": np.array([0, 40, 50], np.int32),
        "context_lengths": np.array([40, 10], np.int32),
        "logit_rows": np.array([39, 49]),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_of_a_step_gives_the_logits_of_the_eager_decoder(
    checkpoint: Checkpoint, kind: str
) -> None:
    model = open_model(str(checkpoint(kind)))
    configuration = model.decoder_configuration()
    graph = step_graph_of(checkpoint(kind), "float32")
    results = run_graph(
        graph, {**weights_of(graph, model), **empty_states(graph), **step_arguments()}
    )
    decoder = load_decoder(configuration, model.open_weights(), dtype=torch.float32)
    expected = np.stack(
        [reference_logits(decoder, configuration, prompt)[-1] for prompt in (FIRST, SECOND)]
    )
    error = np.abs(results["logits"] - expected).max() / np.abs(expected).max()
    assert error <= 1e-5


@torch.no_grad()
def test_a_step_gives_the_states_behind_the_last_norm_only_when_asked(
    checkpoint: Checkpoint,
) -> None:
    model = open_model(str(checkpoint("llama_tied")))
    configuration = model.decoder_configuration()
    plain = step_graph_of(checkpoint("llama_tied"), "float32")
    graph = decoder_step_graph(configuration, dtype="float32", gives_hidden=True)
    outputs = [output.name for output in plain.outputs]
    assert [output.name for output in graph.outputs] == ["logits", "hidden", *outputs[1:]]
    inputs = {**weights_of(graph, model), **empty_states(graph), **step_arguments()}
    found, bare = run_graph(graph, inputs), run_graph(plain, inputs)
    np.testing.assert_array_equal(found["logits"], bare["logits"])
    # The tied matrix behind them gives the logits of every token.
    decoder = load_decoder(configuration, model.open_weights(), dtype=torch.float32)
    logits = found["hidden"] @ decoder.model.embed_tokens.weight.numpy().T
    expected = np.concatenate(
        [reference_logits(decoder, configuration, p) for p in (FIRST, SECOND)]
    )
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("form", "tolerance"), [("int8", 0.01), ("fp8", 0.05), ("int4", 0.25)])
def test_the_graph_over_a_quantised_cache_gives_the_logits_of_the_eager_decoder(
    checkpoint: Checkpoint, form: str, tolerance: float
) -> None:
    model = open_model(str(checkpoint("llama_tied")))
    configuration = model.decoder_configuration()
    graph = step_graph_of(checkpoint("llama_tied"), "float32", form)
    assert [node for node in graph.nodes() if node.op == "extern"] == []
    states = [f"{kind}.{layer}" for kind in CACHE_FORMATS[form].states for layer in range(2)]
    assert names_of(graph, "state") == states
    found = run_graph(
        graph, {**weights_of(graph, model), **empty_states(graph), **step_arguments()}
    )["logits"]
    decoder = load_decoder(configuration, model.open_weights(), dtype=torch.float32)
    rounded, exact = (
        np.stack([reference_logits(decoder, configuration, p, form=f)[-1] for p in (FIRST, SECOND)])
        for f in (form, None)
    )
    size = np.abs(exact).max()
    assert np.abs(found - rounded).max() <= 3e-3 * size
    assert 0 < np.abs(rounded - exact).max() <= tolerance * size


@pytest.mark.parametrize("kind", ["llama_tied", "qwen3_moe"])
def test_the_names_and_roles_of_a_step_are_those_the_engine_binds(
    checkpoint: Checkpoint, kind: str
) -> None:
    model = open_model(str(checkpoint(kind)))
    graph = step_graph_of(checkpoint(kind), "bfloat16")
    layers = range(model.decoder_configuration().num_layers)
    assert names_of(graph, "argument") == list(step_arguments())
    states = [f"{part}_cache.{layer}" for part in ("key", "value") for layer in layers]
    assert names_of(graph, "state") == states
    assert set(names_of(graph, "weight")) == set(model.open_weights().names())
    shapes = {str(node.attr("name")): node.shape for node in graph.inputs}
    model.open_weights().require(
        {name: shapes[name] for name in names_of(graph, "weight")}  # type: ignore[misc]
    )
    assert graph.outputs[0].name == "logits"
    assert graph.outputs[0].node.dtype is DType.FLOAT32
    assert [output.updates for output in graph.outputs[1:]] == states


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, "float32") for kind in KINDS), ("llama_tied", "bfloat16"), ("qwen3_moe", "bfloat16")],
)
def test_a_step_has_no_foreign_operation_and_survives_printing(
    checkpoint: Checkpoint, kind: str, dtype: str
) -> None:
    graph = step_graph_of(checkpoint(kind), dtype)
    assert [node for node in graph.nodes() if node.op == "extern"] == []
    text = print_graph(graph)
    assert print_graph(parse_graph(text)) == text


def test_the_graph_of_an_encoder_gives_the_vectors_of_the_eager_one(
    checkpoint: Checkpoint,
) -> None:
    model = open_model(str(checkpoint("bert")))
    configuration = model.encoder_configuration()
    graph = encoder_graph(configuration, dtype="float32")
    assert [node for node in graph.nodes() if node.op == "extern"] == []
    arguments = {
        "token_ids": np.arange(12).reshape(2, 6) + 4,
        "attention_mask": np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
        "token_types": np.zeros((2, 6), np.int64),
    }
    found = run_graph(graph, {**weights_of(graph, model), **arguments})["hidden"]
    encoder = load_encoder(configuration, model.open_weights(), dtype=torch.float32)
    with torch.no_grad():
        expected = encoder(*(torch.tensor(array) for array in arguments.values())).numpy()
    assert np.abs(found - expected).max() <= 1e-5
    assert names_of(graph, "argument") == list(arguments)


def test_a_warm_start_gives_the_same_graph_and_imports_no_torch(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    directory = checkpoint("llama")
    configuration = open_model(str(directory)).decoder_configuration()
    cold = decoder_step_graph(configuration, dtype="float32", cache_directory=tmp_path)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from banyan.compiler.ir.text import print_graph\n"
        "from banyan.models.loading import open_model\n"
        "from banyan.models.step_graph import decoder_step_graph\n"
        f"configuration = open_model({str(directory)!r}).decoder_configuration()\n"
        f"cache = Path({str(tmp_path)!r})\n"
        "graph = decoder_step_graph(configuration, dtype='float32', cache_directory=cache)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "print(print_graph(graph), end='')\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == print_graph(cold)
