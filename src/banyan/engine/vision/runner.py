"""The program of a tower: one prepared image to rows for the decoder.

Knows the names and shapes of the program's arguments. Dims: P patches, G groups, K patches of one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import Executable
from banyan.models.vision.configuration import Tower
from banyan.models.vision.grouping import group
from banyan.models.vision.images import PreparedImage

Floats = NDArray[np.float32]


class VisionRunner:
    """Runs the tower of one model."""

    def __init__(self, program: Executable, tower: Tower) -> None:
        self._program, self._tower = program, tower

    def encode(self, image: PreparedImage) -> Floats:
        """Give the rows [tokens of the image, embedding] float32."""
        groups = group(self._tower, image)
        rows: NDArray[Any] = self._program.run(groups.arguments)["rows"]
        # A copy: the program writes its next result over this one.
        return np.array(rows.reshape(-1, rows.shape[-1])[groups.order], dtype=np.float32)
