"""Paged caches and steps for tests of the programs."""

from typing import Any

import numpy as np

from banyan.compiler.ir.types import DType

BLOCK = 16


def pack_width(dtype: DType) -> int:
    return 2 if dtype is DType.BFLOAT16 else 1


def random_caches(
    generator: np.random.Generator, num_blocks: int, heads: int, size: int, dtype: DType
) -> tuple[Any, Any]:
    width = pack_width(dtype)
    keys = generator.normal(size=(num_blocks, heads, size // width, BLOCK, width))
    values = generator.normal(size=(num_blocks, heads, BLOCK // width, size, width))
    return keys.astype(dtype.numpy), values.astype(dtype.numpy)


def block_tables(contexts: list[int], num_blocks: int) -> Any:
    """Disjoint blocks for each sequence, handed out from the last block down."""
    widest = max(-(-context // BLOCK) for context in contexts)
    tables = np.zeros((len(contexts), widest), np.int32)
    free = iter(range(num_blocks - 1, 0, -1))
    for row, context in enumerate(contexts):
        for column in range(-(-context // BLOCK)):
            tables[row, column] = next(free)
    return tables
