"""What the engine needs of a model that sees, and a step that is given what it lacks."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from banyan.compiler.executable import PendingRun
from banyan.engine.runner import StepModel

Grid = tuple[int, int, int]


class MeasuredImage(Protocol):
    """An image whose size is known; `models.vision.images.ImageSize` is one."""

    @property
    def num_tokens(self) -> int:
        """Rows that it becomes."""
        ...

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns, for the positions of its rows."""
        ...


class Eyes(Protocol):
    """Turns images into rows that stand where embeddings of tokens would."""

    @property
    def image_token_id(self) -> int:
        """Stands in a prompt once for each row of an image."""
        ...

    @property
    def has_grid_positions(self) -> bool:
        """Whether tokens stand at three numbers instead of one (M-RoPE)."""
        ...

    @property
    def row_size(self) -> int:
        """Numbers of one row: those of an embedding of the decoder."""
        ...

    @property
    def row_dtype(self) -> DTypeLike:
        """What the decoder's step takes rows as."""
        ...

    def measure(self, content: bytes) -> MeasuredImage:
        """Say how large an image is, from the header of its file; raises `ImageError`."""
        ...

    def prepare(self, content: bytes) -> Any:
        """Decode an image for `encode`; may run in any thread; raises `ImageError`."""
        ...

    def encode(self, prepared: Any) -> NDArray[Any]:
        """Return the rows [num_tokens, row_size] of a prepared image, as an array of its own."""
        ...

    def positions_of(
        self, token_ids: Sequence[int], grids: Sequence[Grid]
    ) -> tuple[NDArray[np.int32], int]:
        """Give the positions [3, tokens] of a prompt, and that of the token behind it."""
        ...


def unseen_arguments(
    arguments: Mapping[str, NDArray[Any]], eyes: Eyes
) -> Mapping[str, NDArray[Any]]:
    """Complete the arguments of a step that sees nothing, or only part of whose tokens do.

    Tokens without an image are words, one place behind the other.
    """
    given = dict(arguments)
    if "image_index" not in given:
        # Programs are made for at least one row.
        given["image_rows"] = np.zeros((1, eyes.row_size), dtype=eyes.row_dtype)
        given["image_index"] = np.full(len(given["token_ids"]), -1, dtype=np.int32)
    if eyes.has_grid_positions and given["positions"].ndim == 1:
        given["positions"] = np.tile(given["positions"], (3, 1))
    return given


class SeeingStep(StepModel):
    """The step of a model with eyes: whoever knows of no images need not say so.

    Args:
        model: takes `image_rows` [rows, row_size] and `image_index` [tokens], which names the row
            of a token or is -1, and positions [3, tokens] where `eyes` has grid positions.
    """

    def __init__(self, model: StepModel, eyes: Eyes) -> None:
        self._model = model
        self._eyes = eyes

    @property
    def num_in_flight(self) -> int:
        """Of the model."""
        return self._model.num_in_flight

    def begin(self, arguments: Mapping[str, NDArray[Any]]) -> PendingRun:
        """Start a step."""
        return self._model.begin(unseen_arguments(arguments, self._eyes))

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run a step."""
        return self.begin(arguments).finish()
