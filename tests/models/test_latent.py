"""Latent attention read from config.json."""

from typing import Any

import pytest

from banyan.foundation.errors import ModelError
from banyan.models.json_fields import Fields
from banyan.models.latent import LatentShape, read_latent

SIZES: dict[str, Any] = {
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}


def read(**changes: Any) -> LatentShape:
    return read_latent(Fields({**SIZES, **changes}, "config.json"))


def test_a_token_leaves_its_vector_and_the_rotated_part() -> None:
    found = read(q_lora_rank=None)
    assert found.cached_size == 576
    assert found.query_rank is None
    assert found.has_pairs
    assert found.scale == 192**-0.5
    assert read(q_lora_rank=1536, rope_interleave=False).query_rank == 1536


def test_yarn_also_scales_the_products() -> None:
    # 0.1 * 1.0 * ln(40) + 1 = 1.3688879, as DeepSeek-V3 has it.
    yarn = {"type": "yarn", "factor": 40, "mscale_all_dim": 1.0}
    assert read(rope_scaling=yarn).scale == pytest.approx(192**-0.5 * 1.3688879**2)
    assert read(rope_scaling={"type": "yarn", "factor": 40}).scale == 192**-0.5


def test_an_odd_rotated_part_is_refused() -> None:
    with pytest.raises(ModelError, match="qk_rope_head_dim 63 is odd"):
        read(qk_rope_head_dim=63)
