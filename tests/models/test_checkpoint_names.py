"""Old and new layouts of vision-language checkpoints."""

import pytest

from banyan.models.checkpoint_names import plain_name


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        # Qwen2-VL as released, and as saved since.
        ("visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
        ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("model.visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
        ("model.language_model.norm.weight", "model.norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
        # LLaVA as released, and as saved since.
        ("language_model.model.norm.weight", "model.norm.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("vision_tower.vision_model.pre_layrnorm.bias", "vision_tower.pre_layrnorm.bias"),
        ("vision_tower.pre_layrnorm.bias", "vision_tower.pre_layrnorm.bias"),
        ("model.vision_tower.vision_model.pre_layrnorm.bias", "vision_tower.pre_layrnorm.bias"),
        ("multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
        ("model.multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
    ],
)
def test_a_tensor_has_one_name_in_every_layout(stored: str, plain: str) -> None:
    assert plain_name(stored) == plain
