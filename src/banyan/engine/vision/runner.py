"""The program of a tower: the file of an image to rows for the decoder.

Knows the names and shapes of the program's arguments. Dims: P patches, G groups, K patches of one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import Executable
from banyan.compiler.report import CompileReport
from banyan.models.quantized_model import QuantizedModel
from banyan.models.vision.grouping import group
from banyan.models.vision.images import PreparedImage
from banyan.models.vision.loading import VisionModel
from banyan.models.vision.tower_graph import vision_tower_graph

Floats = NDArray[np.float32]


class VisionRunner:
    """Runs the tower of one model."""

    def __init__(self, program: Executable, vision: VisionModel) -> None:
        self._program, self._vision = program, vision

    @property
    def report(self) -> CompileReport:
        """What compiling the tower did."""
        return self._program.report

    def prepare(self, content: bytes) -> PreparedImage:
        """Unpack, scale and cut the file of an image; may run beside `encode`.

        Raises:
            ImageError: it is damaged, of no known format, too large or too narrow.
        """
        return self._vision.processor.prepare(content)

    def encode(self, image: PreparedImage) -> Floats:
        """Give the rows [tokens of the image, embedding] float32."""
        groups = group(self._vision.tower, image)
        rows: NDArray[Any] = self._program.run(groups.arguments)["rows"]
        # A copy: the program writes its next result over this one.
        return np.array(rows.reshape(-1, rows.shape[-1])[groups.order], dtype=np.float32)


def load_vision(
    vision: VisionModel,
    *,
    dtype: str,
    cache_directory: Path | None,
    load: Callable[[QuantizedModel], Executable],
) -> VisionRunner:
    """Make the eyes of a model ready; `load` compiles a graph and fills it with its weights.

    Raises:
        ModelError: a tensor of the tower is missing or has another shape.
    """
    graph = vision_tower_graph(vision.tower, dtype=dtype, cache_directory=cache_directory)
    return VisionRunner(load(QuantizedModel(graph, vision.open_weights())), vision)
