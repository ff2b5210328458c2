"""Eyes without weights for the fake model: an image is a line of text such as `IMG 3x2 a cat`.

Its rows are a function of all of its bytes, so an engine that mixes up images, rows or places
gets other tokens.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from banyan.engine.vision.eyes import Grid
from banyan.foundation.errors import ImageError

IMAGE_TOKEN_ID = 258
ROW_SIZE = 2


@dataclass(frozen=True, slots=True)
class FakeSize:
    """Rows and columns of a fake image."""

    rows: int
    columns: int

    @property
    def num_tokens(self) -> int:
        """One row for each place."""
        return self.rows * self.columns

    @property
    def grid(self) -> Grid:
        """One frame."""
        return (1, self.rows, self.columns)


class FakeEyes:
    """Sees lines of text; one that says "broken" cannot be prepared, "fatal" not encoded.

    Args:
        has_grid_positions: as of a model that turns by rows and columns.
        prepare_seconds: how long an image takes in the thread.

    Attributes:
        seen: the images that were encoded, in order.
        num_prepared: how many were decoded.
    """

    image_token_id = IMAGE_TOKEN_ID
    row_size = ROW_SIZE
    row_dtype = np.float32

    def __init__(self, *, has_grid_positions: bool = True, prepare_seconds: float = 0.0) -> None:
        self.has_grid_positions = has_grid_positions
        self._prepare_seconds = prepare_seconds
        self.seen: list[bytes] = []
        self.num_prepared = 0

    def measure(self, content: bytes) -> FakeSize:
        """Read the numbers."""
        match = re.match(rb"IMG (\d+)x(\d+) ", content)
        if match is None:
            raise ImageError(f"these {len(content)} bytes are not an image")
        return FakeSize(int(match[1]), int(match[2]))

    def prepare(self, content: bytes) -> bytes:
        """Give the bytes back."""
        time.sleep(self._prepare_seconds)
        self.num_prepared += 1
        if b"broken" in content:
            raise ImageError("the image is damaged: it says so")
        return content

    def encode(self, prepared: bytes) -> NDArray[np.float32]:
        """Make up rows."""
        if b"fatal" in prepared:
            raise RuntimeError("the tower fell")
        self.seen.append(prepared)
        numbers = np.random.default_rng(crc32(prepared))
        return numbers.random((self.measure(prepared).num_tokens, ROW_SIZE), dtype=np.float32)

    def positions_of(
        self, token_ids: Sequence[int], grids: Sequence[Grid]
    ) -> tuple[NDArray[np.int32], int]:
        """Count text on all three numbers, images by row and column, as in Qwen2-VL."""
        places: list[tuple[int, int, int]] = []
        left = iter(grids)
        following = skip = 0
        for token_id in token_ids:
            if skip:
                skip -= 1
            elif token_id == IMAGE_TOKEN_ID:
                _, rows, columns = next(left)
                places += [
                    (following, following + row, following + column)
                    for row in range(rows)
                    for column in range(columns)
                ]
                skip = rows * columns - 1
                following += max(rows, columns)
            else:
                places.append((following,) * 3)
                following += 1
        return np.array(places, dtype=np.int32).T, following
