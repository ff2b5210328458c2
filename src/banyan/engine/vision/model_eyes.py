"""The eyes of a loaded model: what counts and prepares images, and the compiled tower."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from banyan.engine.vision.eyes import Grid
from banyan.engine.vision.row_store import MOST_ROWS
from banyan.engine.vision.runner import VisionRunner
from banyan.models.vision.image_file import MOST_PIXELS, image_size
from banyan.models.vision.images import ImageSize, PreparedImage
from banyan.models.vision.loading import VisionModel


@dataclass(frozen=True, slots=True)
class ModelEyes:
    """Encodes images for the decoder of the same checkpoint; an `eyes.Eyes`.

    Attributes:
        vision: knows how images become patches, tokens and positions.
        runner: the compiled tower.
        row_size: numbers of one embedding of the decoder.
        row_dtype: what the decoder's step takes rows as.
        weight_bytes: memory of the tower.
    """

    vision: VisionModel
    runner: VisionRunner
    row_size: int
    row_dtype: DTypeLike
    weight_bytes: int

    @property
    def image_token_id(self) -> int:
        """Stands in a prompt once for each row of an image."""
        return self.vision.image_token_id

    @property
    def has_grid_positions(self) -> bool:
        """Whether tokens stand at a frame, a row and a column."""
        return self.vision.has_grid_positions

    @property
    def num_bytes(self) -> int:
        """Memory that the tower takes, and the rows that wait for their turn."""
        return self.weight_bytes + MOST_ROWS * self.row_size * np.dtype(self.row_dtype).itemsize

    def measure(self, content: bytes) -> ImageSize:
        """Say how large an image is, from the header of its file."""
        width, height = image_size(content, max_pixels=MOST_PIXELS)
        return self.vision.processor.size_of(width, height)

    def prepare(self, content: bytes) -> PreparedImage:
        """Decode an image into patches."""
        return self.runner.prepare(content)

    def encode(self, prepared: PreparedImage) -> NDArray[Any]:
        """Return the rows of an image in the decoder's dtype."""
        return self.runner.encode(prepared).astype(self.row_dtype)

    def positions_of(
        self, token_ids: Sequence[int], grids: Sequence[Grid]
    ) -> tuple[NDArray[np.int32], int]:
        """Give the positions of a prompt, and that of the token behind it."""
        return self.vision.positions_of(token_ids, grids)
