"""Heads in their published layouts: what is read, what is refused, and what they guess."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from banyan.compiler.targets.interpreter.run import run_graph
from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.configuration import ModelConfiguration, read_configuration
from banyan.models.heads.graph import heads_graph
from banyan.models.heads.reading import EagleHead, HeadsDirectory, MedusaHeads, open_heads
from banyan.models.weights import CheckpointWeights
from tests.conftest import Checkpoint
from tests.models.heads.files import write_eagle, write_medusa

NUM_TOKENS = 21


def configuration_of(directory: Path) -> ModelConfiguration:
    configuration = read_configuration(directory)
    assert isinstance(configuration, ModelConfiguration)
    return configuration


def opened(directory: Path, base: Path) -> HeadsDirectory:
    return open_heads(directory, configuration_of(base))


def run(heads: HeadsDirectory, base: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    graph = heads_graph(heads.heads, dtype="float32")
    weights = heads.open_weights(CheckpointWeights(base))
    inputs = dict(arguments)
    for node in graph.inputs:
        name = str(node.attr("name"))
        if node.attr("role") == "weight":
            inputs[name] = weights.read(name)
        elif node.attr("role") == "state":
            sizes = [size for size in node.shape[1:] if isinstance(size, int)]
            inputs[name] = np.zeros((4, *sizes), node.dtype.numpy)
    return dict(run_graph(graph, inputs))


def test_medusa_heads_say_what_their_blocks_and_matrices_say(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    base = checkpoint("llama")
    sizes = configuration_of(base)
    directory = write_medusa(
        tmp_path, hidden_size=sizes.hidden_size, vocab_size=sizes.vocab_size, num_layers=2
    )
    hidden = torch.randn(5, sizes.hidden_size, generator=torch.Generator().manual_seed(1))
    heads = opened(directory, base)
    assert heads.heads == MedusaHeads(3, 2, sizes.hidden_size, sizes.vocab_size, has_bias=True)
    assert heads.method == "medusa"
    found = run(heads, base, {"hidden": hidden.numpy()})
    w = load_file(directory / "medusa_lm_head.safetensors")
    for head in range(3):
        x = hidden
        for block in range(2):
            name = f"{head}.{block}.linear"
            x = x + functional.silu(functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"]))
        chances = functional.softmax(x @ w[f"{head}.2.weight"].T, dim=-1)
        best = chances.max(dim=-1)
        assert found["token_ids"][:, head].tolist() == best.indices.tolist()
        np.testing.assert_allclose(found["chances"][:, head], best.values.numpy(), rtol=1e-4)


def expected_eagle(directory: Path, base: Path, ids: torch.Tensor, hidden: torch.Tensor) -> Any:
    """The states of the head over whole rows, with the parts of transformers."""
    config: Any = transformers.AutoConfig.from_pretrained(directory)
    config._attn_implementation = "eager"
    w = load_file(directory / "model.safetensors")
    table = CheckpointWeights(base).read("model.embed_tokens.weight")
    embedded = functional.embedding(ids, torch.from_numpy(np.array(table)))
    x = functional.linear(torch.cat((embedded, hidden), dim=-1), w["fc.weight"], w.get("fc.bias"))
    layer = LlamaDecoderLayer(config, layer_idx=0)
    layer.input_layernorm = torch.nn.Identity()
    own = {k.removeprefix("layers.0."): v for k, v in w.items() if k.startswith("layers.0.")}
    layer.load_state_dict(own)
    positions = torch.arange(len(ids))[None]
    rotation = LlamaRotaryEmbedding(config)(x[None], positions)
    mask = torch.full((len(ids), len(ids)), float("-inf")).triu(1)[None, None]
    result = layer(x[None], attention_mask=mask, position_embeddings=rotation)
    return (result[0] if isinstance(result, tuple) else result).reshape(len(ids), -1)


@pytest.mark.parametrize("kind", ["llama", "llama_tied"])
@torch.no_grad()
def test_an_eagle_head_goes_on_as_the_same_layer_does_elsewhere(
    checkpoint: Checkpoint, tmp_path: Path, kind: str
) -> None:
    base = checkpoint(kind)
    sizes = configuration_of(base)
    directory = write_eagle(tmp_path, base, has_bias=kind == "llama")
    heads = opened(directory, base)
    assert isinstance(heads.heads, EagleHead)
    assert (heads.method, heads.heads.has_bias) == ("eagle", kind == "llama")
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, sizes.vocab_size, (NUM_TOKENS,), generator=generator)
    hidden = torch.randn(NUM_TOKENS, sizes.hidden_size, generator=generator)
    rows = [3, NUM_TOKENS - 1]
    places = np.arange(NUM_TOKENS)
    found = run(
        heads,
        base,
        {
            "token_ids": ids.numpy(),
            "positions": places,
            "slots": np.array([2, 1])[places // 16] * 16 + places % 16,
            "block_tables": np.array([[2, 1]], np.int32),
            "query_starts": np.array([0, NUM_TOKENS], np.int32),
            "context_lengths": np.array([NUM_TOKENS], np.int32),
            "logit_rows": np.array(rows),
            "hidden": hidden.numpy(),
        },
    )
    states = expected_eagle(directory, base, ids, hidden)[rows]
    np.testing.assert_allclose(found["hidden"], states.numpy(), rtol=1e-3, atol=1e-4)
    tied = sizes.tie_embeddings
    name = "model.embed_tokens.weight" if tied else "lm_head.weight"
    matrix = torch.from_numpy(np.array(CheckpointWeights(base).read(name)))
    best = functional.softmax(states @ matrix.T, dim=-1).max(dim=-1)
    assert found["token_ids"].tolist() == best.indices.tolist()
    np.testing.assert_allclose(found["chances"], best.values.numpy(), rtol=1e-3)


def test_heads_of_another_model_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    base = checkpoint("llama")
    directory = write_eagle(tmp_path, base)
    fields = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(fields | {"hidden_size": 64 * 3}))
    with pytest.raises(ModelError, match=r"hidden_size is 192, but the decoder's is \d+; these"):
        opened(directory, base)


def test_heads_as_a_pickle_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"medusa_num_heads": 3}')
    (tmp_path / "medusa_lm_head.pt").write_bytes(b"\x80\x04")
    with pytest.raises(UnsupportedModelError, match=r"the pickle medusa_lm_head.pt.*convert them"):
        opened(tmp_path, checkpoint("llama"))


def test_a_directory_without_heads_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    base = checkpoint("llama")
    (tmp_path / "config.json").write_text('{"medusa_num_heads": 3}')
    with pytest.raises(ModelError, match=r"no medusa_lm_head.safetensors and no model"):
        opened(tmp_path, base)
    with pytest.raises(UnsupportedModelError, match="neither medusa_num_heads nor a tensor fc"):
        opened(base, base)


def test_heads_over_three_layers_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    base = checkpoint("llama")
    directory = write_eagle(tmp_path, base)
    fields = json.loads((directory / "config.json").read_text())
    named = {"architectures": ["LlamaForCausalLMEagle3"]}
    (directory / "config.json").write_text(json.dumps(fields | named))
    with pytest.raises(UnsupportedModelError, match="is an EAGLE-3 head, which reads three layers"):
        opened(directory, base)


def test_a_tensor_of_another_shape_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    base = checkpoint("llama")
    sizes = configuration_of(base)
    directory = write_medusa(tmp_path, hidden_size=sizes.hidden_size, vocab_size=7)
    weights = opened(directory, base).open_weights(CheckpointWeights(base))
    with pytest.raises(ModelError, match=r"tensor heads.0.1.weight .* has shape \[7, \d+\]"):
        weights.require({"heads.0.1.weight": (sizes.vocab_size, sizes.hidden_size)})
    assert "model.embed_tokens.weight" in weights.names()
    weights.release("heads.0.1.weight")
    weights.release("model.embed_tokens.weight")
