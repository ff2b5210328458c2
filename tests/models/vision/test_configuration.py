"""What config.json says of models that see, in the files of every age."""

import json
from pathlib import Path
from typing import Any

import pytest

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.configuration import ModelConfiguration, read_configuration
from banyan.models.vision.configuration import GridTower, SquareTower
from banyan.models.vision.loading import VisionModel, open_vision
from tests.models.vision_checkpoints import make_vision_checkpoint

# As Qwen/Qwen2-VL-2B-Instruct was released: the decoder's fields beside everything else.
QWEN2_VL: dict[str, Any] = {
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "vision_start_token_id": 151652,
    "image_token_id": 151655,
    "hidden_act": "silu",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "model_type": "qwen2_vl",
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vision_config": {
        "depth": 32,
        "embed_dim": 1280,
        "mlp_ratio": 4,
        "num_heads": 16,
        "in_chans": 3,
        "hidden_size": 1536,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
    },
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vocab_size": 151936,
}
# As Qwen/Qwen2.5-VL-3B-Instruct was released.
QWEN2_5_VL = {
    **QWEN2_VL,
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "model_type": "qwen2_5_vl",
    "vision_config": {
        "depth": 32,
        "hidden_act": "silu",
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "in_chans": 3,
        "out_hidden_size": 1536,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "tokens_per_second": 2,
        "temporal_patch_size": 2,
    },
}
# As llava-hf/llava-1.5-7b-hf was released: silent where the decoder is an ordinary Llama.
LLAVA: dict[str, Any] = {
    "architectures": ["LlavaForConditionalGeneration"],
    "ignore_index": -100,
    "image_token_index": 32000,
    "model_type": "llava",
    "pad_token_id": 32001,
    "projector_hidden_act": "gelu",
    "text_config": {
        "_name_or_path": "lmsys/vicuna-7b-v1.5",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096,
        "model_type": "llama",
        "rms_norm_eps": 1e-05,
        "torch_dtype": "float16",
        "vocab_size": 32064,
    },
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "projection_dim": 768,
        "vocab_size": 32000,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "vocab_size": 32064,
}
PREPARING: dict[str, Any] = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "crop_size": {"height": 336, "width": 336},
    "size": {"shortest_edge": 336},
}


def written(directory: Path, configuration: dict[str, Any], **preparing: Any) -> Path:
    (directory / "config.json").write_text(json.dumps(configuration))
    (directory / "preprocessor_config.json").write_text(json.dumps({**PREPARING, **preparing}))
    return directory


def opened(directory: Path) -> tuple[ModelConfiguration, VisionModel]:
    decoder, vision = read_configuration(directory), open_vision(directory)
    assert isinstance(decoder, ModelConfiguration)
    assert vision is not None
    return decoder, vision


def test_a_released_qwen2_vl_is_read(tmp_path: Path) -> None:
    decoder, vision = opened(written(tmp_path, QWEN2_VL))
    assert decoder.sees_images
    assert decoder.tie_embeddings
    assert decoder.query_key_value_bias
    assert decoder.rope.scaling is None
    assert decoder.rope.sections == (16, 24, 24)
    assert decoder.eos_token_ids == (151645,)
    tower = vision.tower
    assert isinstance(tower, GridTower)
    assert (tower.head_dim, tower.intermediate_size, tower.patch_values) == (80, 5120, 1176)
    assert (tower.activation, tower.window_merges) == ("gelu_sigmoid", 0)
    # Each side to the nearest multiple of 28: 39 columns and 51 rows of the result.
    assert vision.processor.size_of(1080, 1440).num_tokens == 39 * 51
    assert vision.image_token_id == 151655


def test_a_released_qwen2_5_vl_is_read(tmp_path: Path) -> None:
    _, vision = opened(written(tmp_path, QWEN2_5_VL))
    tower = vision.tower
    assert isinstance(tower, GridTower)
    assert (tower.kind, tower.window_merges) == ("qwen2_5", 4)
    assert tower.full_layers == (7, 15, 23, 31)
    assert (tower.activation, tower.intermediate_size, tower.output_size) == ("silu", 3420, 1536)


def test_a_released_llava_is_read(tmp_path: Path) -> None:
    decoder, vision = opened(written(tmp_path, LLAVA))
    assert (decoder.hidden_size, decoder.num_layers, decoder.num_kv_heads) == (4096, 32, 32)
    assert decoder.checkpoint_dtype == "float16"
    assert decoder.sees_images
    assert decoder.rope.sections == ()
    tower = vision.tower
    assert isinstance(tower, SquareTower)
    assert (tower.feature_layers, tower.num_rows, tower.head_dim) == ((23,), 576, 64)
    assert vision.processor.size_of(640, 480).num_tokens == 576
    assert not vision.has_grid_positions


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "llava"])
def test_what_transformers_writes_today_is_read(kind: str, tmp_path: Path) -> None:
    decoder, vision = opened(make_vision_checkpoint(kind, tmp_path / kind))
    assert decoder.sees_images
    assert decoder.vocab_size == 328
    assert decoder.tie_embeddings == (kind == "qwen2_5_vl")
    assert vision.tower.num_layers >= 2
    positions, following = vision.positions_of([1, 2, 3], [])
    assert positions.shape == ((3,) if kind == "llava" else (3, 3))
    assert following == 3


def test_a_model_that_only_writes_has_no_eyes(tmp_path: Path) -> None:
    plain = {**QWEN2_VL, "architectures": ["Qwen2ForCausalLM"], "rope_scaling": None}
    assert open_vision(written(tmp_path, plain)) is None


def changed(source: dict[str, Any], part: str | None, **values: Any) -> dict[str, Any]:
    return {**source, **values} if part is None else {**source, part: {**source[part], **values}}


@pytest.mark.parametrize(
    ("configuration", "kind", "reason"),
    [
        (
            changed(QWEN2_VL, "rope_scaling", mrope_section=[16, 24]),
            ModelError,
            r"mrope_section \[16, 24\] must be three sizes that add up to half the head, 64",
        ),
        (
            changed(QWEN2_VL, "vision_config", hidden_size=1024),
            ModelError,
            "rows of 1024 numbers; the embeddings of the decoder have 1536",
        ),
        (
            changed(QWEN2_VL, "vision_config", hidden_act="relu"),
            UnsupportedModelError,
            "activation 'relu'",
        ),
        (
            changed(QWEN2_VL, "vision_config", num_heads=7),
            ModelError,
            "1280 numbers in 7 heads",
        ),
        (
            changed(QWEN2_VL, "vision_config", in_chans=4),
            UnsupportedModelError,
            "sees 4 channels",
        ),
        (
            changed(QWEN2_VL, None, vision_config=None),
            ModelError,
            "lacks the field 'vision_config'",
        ),
        (
            changed(QWEN2_VL, None, image_token_id=200_000),
            ModelError,
            "image_token_id 200000 is no token of a vocabulary of 151936",
        ),
        (
            changed(QWEN2_5_VL, "vision_config", window_size=14),
            ModelError,
            "window_size 14 is smaller than the 28 pixels of one row",
        ),
        (
            changed(QWEN2_5_VL, "vision_config", hidden_act="gelu"),
            UnsupportedModelError,
            "activation 'gelu'",
        ),
        (
            changed(LLAVA, "vision_config", model_type="siglip_vision_model"),
            UnsupportedModelError,
            "tower of type 'siglip_vision_model'",
        ),
        (
            changed(LLAVA, "text_config", model_type="gemma"),
            UnsupportedModelError,
            "decoder of type 'gemma'",
        ),
        (
            changed(LLAVA, None, vision_feature_select_strategy="mean"),
            UnsupportedModelError,
            "selects features by 'mean'",
        ),
        (
            changed(LLAVA, None, vision_feature_layer=-26),
            ModelError,
            r"vision_feature_layer \[-26\] is outside the 24 layers",
        ),
        (
            changed(LLAVA, "vision_config", image_size=224),
            ModelError,
            "16 x 16 patches of 14 pixels",
        ),
    ],
)
def test_what_is_not_supported_is_refused_in_one_sentence(
    configuration: dict[str, Any], kind: type[Exception], reason: str, tmp_path: Path
) -> None:
    directory = written(tmp_path, configuration)
    with pytest.raises(kind, match=reason):
        opened(directory)


def test_parts_of_several_layers_are_counted_from_either_end(tmp_path: Path) -> None:
    several = {**LLAVA, "vision_feature_layer": [-2, 3], "vision_feature_select_strategy": "full"}
    _, vision = opened(written(tmp_path, several))
    assert isinstance(vision.tower, SquareTower)
    assert vision.tower.feature_layers == (23, 3)
    assert vision.tower.num_rows == 577


def test_without_a_file_for_images_the_model_is_refused(tmp_path: Path) -> None:
    directory = written(tmp_path, LLAVA)
    (directory / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="nothing says how images are prepared"):
        opened(directory)
