"""Multi-head latent attention as data (DeepSeek-AI, arXiv:2405.04434, section 2.1).

Keys and values of all heads are made from one short vector of each token; only that vector and a
rotated part that all heads share are kept in the cache. Imports no torch. Called by
`configuration`; `latent_attention` computes it.
"""

import math
from dataclasses import dataclass

from banyan.foundation.errors import ModelError
from banyan.models.json_fields import Fields


@dataclass(frozen=True, slots=True)
class LatentShape:
    """Sizes of latent attention.

    Attributes:
        rank: numbers of the vector that keys and values are made from.
        query_rank: numbers that queries are made from; None where they are made at once.
        content_size: numbers of a head's key that are not rotated.
        rotary_size: numbers of a head's key that are.
        value_size: numbers of a head's value.
        has_pairs: numbers next to each other are rotated together, not halves against each other.
        scale: factor on the products of queries and keys.
    """

    rank: int
    query_rank: int | None
    content_size: int
    rotary_size: int
    value_size: int
    has_pairs: bool
    scale: float

    @property
    def cached_size(self) -> int:
        """Numbers that a token leaves in the cache of a layer."""
        return self.rank + self.rotary_size


def read_latent(fields: Fields) -> LatentShape:
    """Read latent attention from a config.json.

    Raises:
        ModelError: a field is missing or contradicts another.
    """
    content, rotary = fields.integer("qk_nope_head_dim"), fields.integer("qk_rope_head_dim")
    if rotary % 2:
        raise ModelError(
            f"{fields.origin}: qk_rope_head_dim {rotary} is odd; the rotary embedding needs an "
            "even one"
        )
    return LatentShape(
        rank=fields.integer("kv_lora_rank"),
        query_rank=fields.integer("q_lora_rank") if fields.has("q_lora_rank") else None,
        content_size=content,
        rotary_size=rotary,
        value_size=fields.integer("v_head_dim"),
        has_pairs=fields.flag("rope_interleave", True),
        scale=(content + rotary) ** -0.5 * _stretch(fields) ** 2,
    )


def _stretch(fields: Fields) -> float:
    """What YaRN does to queries and keys besides its factor on cosine and sine."""
    rope = fields.nested("rope_parameters") or fields.nested("rope_scaling")
    if rope is None or rope.text("rope_type", rope.text("type", "default")) == "default":
        return 1.0
    factor, weight = rope.number("factor", 1.0), rope.number("mscale_all_dim", 0.0)
    return 1.0 if factor <= 1 or not weight else 0.1 * weight * math.log(factor) + 1.0
