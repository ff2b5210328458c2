"""Which copy of a KV-cache block is good, where two programs each have memory for all blocks. Pure.

A block has the same number in both. Whatever one writes is stale in the other from there on, and is
moved over when the other has to read it: a whole block at a time, so that beginnings which
sequences share are right in both, whoever computed them. Called by `prompts_apart`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import Array
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE

Blocks = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Touched:
    """What a share of a step reads and writes.

    Attributes:
        read: blocks that hold what its tokens look back at.
        places: so many of the first places of each are looked at.
        written: blocks, one for each token that is written.
        offsets: its place there; those of a block in rising order.
    """

    read: Blocks
    places: Blocks
    written: Blocks
    offsets: Blocks


def touched_by(arguments: Mapping[str, Array]) -> Touched:
    """What a step with these arguments (see `runner.step_arguments`) reads and writes."""
    tables, lengths = arguments["block_tables"], arguments["context_lengths"]
    known_S = lengths.astype(np.int64) - np.diff(arguments["query_starts"])
    starts_B = BLOCK_SIZE * np.arange(tables.shape[1])
    places_SB = np.clip(known_S[:, None] - starts_B, 0, BLOCK_SIZE)
    is_read_SB = places_SB > 0
    slots = arguments["slots"]
    slots = slots[slots >= 0]
    return Touched(
        tables[is_read_SB].astype(np.int64),
        places_SB[is_read_SB],
        slots // BLOCK_SIZE,
        slots % BLOCK_SIZE,
    )


class BlockCopies:
    """For each of two sides, how many of the first places of each block are as last written."""

    def __init__(self, num_blocks: int) -> None:
        self._good = np.zeros((2, num_blocks), np.int64)

    def missing(self, side: int, touched: Touched) -> list[int]:
        """Blocks that a side has to get from the other before it reads them, each once."""
        is_stale = self._good[side, touched.read] < touched.places
        return [int(block) for block in np.unique(touched.read[is_stale])]

    def note_moved(self, side: int, block: int) -> None:
        """A side got a block from the other."""
        self._good[side, block] = self._good[1 - side, block]

    def note_written(self, side: int, touched: Touched) -> None:
        """A side writes its tokens."""
        np.minimum.at(self._good[1 - side], touched.written, touched.offsets)
        # Of equal places the last assignment counts: the highest offset.
        self._good[side, touched.written] = touched.offsets + 1

    def note_filled(self, side: int, block: int) -> None:
        """A side was given the contents of a whole block; the other was not."""
        self._good[side, block] = BLOCK_SIZE
        self._good[1 - side, block] = 0

    def newest(self, block: int) -> int:
        """The side that has the most of a block."""
        return int(self._good[1, block] > self._good[0, block])
