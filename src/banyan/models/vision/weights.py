"""The weights of a tower under the names of its graph."""

from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from banyan.models.checkpoint_names import plain_name
from banyan.models.weights import CheckpointWeights, require_tensors

_PATCH_WEIGHTS = (
    "visual.patch_embed.proj.weight",
    "vision_tower.embeddings.patch_embedding.weight",
)


class TowerWeights:
    """Tensors of a checkpoint of either layout.

    The convolution over patches is a matrix here, [outputs, numbers of a patch]: its stride is its
    size, so it multiplies each patch once.
    """

    def __init__(self, directory: Path) -> None:
        """Open and validate every file; raises `ModelError`."""
        self._stored = CheckpointWeights(directory, renamed=plain_name)

    @property
    def directory(self) -> Path:
        """Where the files lie."""
        return self._stored.directory

    def names(self) -> Collection[str]:
        """Give every tensor, the decoder's included."""
        return self._stored.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a tensor without reading it."""
        shape = self._stored.shape(name)
        return (shape[0], prod(shape[1:])) if name in _PATCH_WEIGHTS else shape

    def read(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Give a read-only view of a tensor."""
        array = self._stored.read(name)
        return array.reshape(self.shape(name)) if name in _PATCH_WEIGHTS else array

    def release(self, name: str) -> None:
        """Drop the pages of a tensor."""
        self._stored.release(name)

    def require(self, expected: Mapping[str, Sequence[int]]) -> None:
        """Check that every expected tensor is there with its shape; raises `ModelError`."""
        require_tensors(self, expected)
