"""What a program of paged attention is asked for."""

import math
from dataclasses import dataclass

from banyan.compiler.ir.types import TensorType
from banyan.compiler.programs.running_softmax import fixed

PAGE = 4096
"""Bytes of memory that hardware fetches ahead of a reader without being asked."""


@dataclass(frozen=True, slots=True)
class AttentionTypes:
    """Types of the arguments of `paged_attention`, in order; no values if the cache is latent."""

    queries: TensorType
    keys: TensorType
    values: TensorType | None
    tables: TensorType
    starts: TensorType
    lengths: TensorType
    key_scales: TensorType | None = None
    value_scales: TensorType | None = None


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """Attributes: the factor of scores, keys seen before each token (0: all), size of a value."""

    scale: float
    window: int
    value_size: int


def heads_of_a_tile(types: AttentionTypes) -> int:
    """How many heads a tile goes through in turns: two of an int8 cache, if they lie in one page.

    Memory is fetched ahead within a page, so the second head finds its keys under way.
    """
    heads, *of_head = map(fixed, types.keys.shape[1:])
    is_half = types.key_scales is not None and 2 * math.prod(of_head) <= PAGE
    return 2 if is_half and heads % 2 == 0 else 1
