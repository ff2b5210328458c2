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
    """Attributes:
    scale: the factor of scores.
    window: keys seen before each token; 0 for all.
    value_size: elements of a value.
    step_blocks: blocks of 16 keys taken at a time.
    """

    scale: float
    window: int
    value_size: int
    step_blocks: int


def heads_of_a_tile(types: AttentionTypes) -> int:
    """How many heads a tile goes through in turns: up to four of a quantised one, in two pages.

    Memory is fetched ahead within a page, so the next head finds its keys under way. Blocks of
    other caches fill a page themselves.
    """
    if types.key_scales is None:
        return 1
    heads, *of_head = map(fixed, types.keys.shape[1:])
    num_bytes = math.prod(of_head) * types.keys.dtype.num_bytes
    sizes = (n for n in (4, 2) if heads % n == 0 and n * num_bytes <= 2 * PAGE)
    return next(sizes, 1)
