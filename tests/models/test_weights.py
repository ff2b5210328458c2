import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from banyan.foundation.errors import ModelError
from banyan.models.weights import CheckpointWeights
from tests.conftest import Checkpoint


def write_index(directory: Path, weight_map: dict[str, object]) -> None:
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def test_every_tensor_of_a_single_file_is_delivered(checkpoint: Checkpoint) -> None:
    directory = checkpoint("llama")
    weights = CheckpointWeights(directory)
    stored = load_file(directory / "model.safetensors")
    assert set(weights.names()) == set(stored)
    for name, expected in stored.items():
        assert weights.shape(name) == expected.shape
        assert np.array_equal(weights.read(name), expected)
        weights.release(name)


def test_shards_deliver_the_same_tensors_as_one_file(checkpoint: Checkpoint) -> None:
    whole = CheckpointWeights(checkpoint("llama"))
    directory = checkpoint("llama", shard_bytes=100_000)
    assert len(list(directory.glob("*.safetensors"))) > 1
    sharded = CheckpointWeights(directory)
    assert set(sharded.names()) == set(whole.names())
    for name in whole.names():
        assert np.array_equal(sharded.read(name), whole.read(name))


def test_bfloat16_weights_stay_bfloat16(checkpoint: Checkpoint) -> None:
    weights = CheckpointWeights(checkpoint("llama", dtype="bfloat16"))
    assert weights.read("model.norm.weight").dtype == ml_dtypes.bfloat16


def test_experts_are_delivered_as_one_stack_in_order(checkpoint: Checkpoint) -> None:
    directory = checkpoint("mixtral")
    weights = CheckpointWeights(directory)
    stored = load_file(directory / "model.safetensors")
    block = "model.layers.1.block_sparse_moe.experts"
    stack = weights.read(f"{block}.w1.weight")
    assert weights.shape(f"{block}.w1.weight") == stack.shape == (4, 128, 64)
    for expert in range(4):
        assert np.array_equal(stack[expert], stored[f"{block}.{expert}.w1.weight"])
    weights.release(f"{block}.w1.weight")
    assert f"{block}.0.w1.weight" not in weights.names()


def test_a_missing_expert_is_named(tmp_path: Path) -> None:
    one = np.ones((2, 2), np.float32)
    save_file(
        {"mlp.experts.0.w1.weight": one, "mlp.experts.2.w1.weight": one},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(ModelError, match=r"lacks expert 1 of mlp\.experts\.w1\.weight"):
        CheckpointWeights(tmp_path)


def test_experts_of_different_shapes_are_refused(tmp_path: Path) -> None:
    save_file(
        {
            "mlp.experts.0.w1.weight": np.ones((2, 2), np.float32),
            "mlp.experts.1.w1.weight": np.ones((2, 3), np.float32),
        },
        tmp_path / "model.safetensors",
    )
    with pytest.raises(ModelError, match=r"expert 1 is float32\[2, 3\], expert 0 is .*\[2, 2\]"):
        CheckpointWeights(tmp_path).read("mlp.experts.w1.weight")


def test_a_prefix_is_left_out_of_the_names_that_carry_it(tmp_path: Path) -> None:
    one = np.ones(2, np.float32)
    save_file({"bert.x": one, "cls.y": 2 * one}, tmp_path / "model.safetensors")
    weights = CheckpointWeights(tmp_path, prefix="bert.")
    assert set(weights.names()) == {"x", "cls.y"}
    assert weights.read("x")[0] == 1


def test_missing_tensors_are_named_up_to_five(checkpoint: Checkpoint) -> None:
    weights = CheckpointWeights(checkpoint("llama"))
    with pytest.raises(ModelError, match=r"lacks tensors .* asks for: a, b$"):
        weights.require({"a": (1,), "b": (1,)})
    with pytest.raises(ModelError, match=r"asks for: a, b, c, d, e and 2 more$"):
        weights.require({name: (1,) for name in "abcdefg"})


def test_a_wrong_shape_is_named_with_both_shapes(checkpoint: Checkpoint) -> None:
    weights = CheckpointWeights(checkpoint("llama"))
    weights.require({"model.norm.weight": (64,)})
    with pytest.raises(ModelError, match=r"has shape \[64\]; the configuration asks for \[65\]"):
        weights.require({"model.norm.weight": (65,)})


def test_a_tensor_that_is_not_there_is_named(checkpoint: Checkpoint) -> None:
    with pytest.raises(ModelError, match=r"no tensor named lm_head\.bias"):
        CheckpointWeights(checkpoint("llama")).read("lm_head.bias")


def test_an_index_that_points_to_a_missing_shard_is_refused(tmp_path: Path) -> None:
    write_index(tmp_path, {"x": "model-00001-of-00001.safetensors"})
    with pytest.raises(ModelError, match=r"model-00001-of-00001\.safetensors does not exist"):
        CheckpointWeights(tmp_path)


def test_an_index_that_promises_an_absent_tensor_is_refused(tmp_path: Path) -> None:
    save_file({"x": np.ones(1, np.float32)}, tmp_path / "a.safetensors")
    write_index(tmp_path, {"x": "a.safetensors", "y": "a.safetensors"})
    with pytest.raises(ModelError, match=r"a\.safetensors lacks the tensor y"):
        CheckpointWeights(tmp_path)


def test_an_index_that_leaves_its_directory_is_refused(tmp_path: Path) -> None:
    write_index(tmp_path, {"x": "../secret.safetensors"})
    with pytest.raises(ModelError, match="points outside its directory"):
        CheckpointWeights(tmp_path)


def test_an_index_without_a_map_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="lacks the field 'weight_map'"):
        CheckpointWeights(tmp_path)


def test_a_directory_without_safetensors_says_what_it_found(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model\.safetensors and no .*json$"):
        CheckpointWeights(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"found pytorch_model\.bin, a format that is not read"):
        CheckpointWeights(tmp_path)
