"""Open what a vision-language model needs beside its decoder.

The door for the engine and for the process that only reads text: `open_vision` and `size_of` need
neither NumPy nor Pillow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from banyan.foundation.errors import ModelError
from banyan.models.configuration import ModelConfiguration, read_configuration
from banyan.models.families import VisionFamily, find_vision_family
from banyan.models.json_fields import Fields
from banyan.models.vision.configuration import (
    GridTower,
    SquareTower,
    Tower,
    read_grid_tower,
    read_square_tower,
)
from banyan.models.vision.processing import (
    GridProcessor,
    ImageProcessor,
    SquareProcessor,
    read_grid_processor,
    read_processor_fields,
    read_square_processor,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from banyan.models.vision.weights import TowerWeights


@dataclass(frozen=True, slots=True)
class VisionModel:
    """The eyes of a model.

    Attributes:
        processor: counts the tokens of an image and prepares its pixels.
        tower: what the graph of the tower is captured from.
        image_token_id: stands in a prompt for one row of an image; templates write it once for a
            whole image.
        has_grid_positions: tokens stand at a frame, a row and a column; see `positions_of`.
    """

    path: Path
    processor: ImageProcessor
    tower: Tower
    image_token_id: int
    has_grid_positions: bool

    def positions_of(
        self, token_ids: Sequence[int], grids: Sequence[tuple[int, int, int]]
    ) -> "tuple[NDArray[np.int32], int]":
        """Give the positions of a prompt and that of the token that comes next.

        Positions are [3, tokens], or [tokens] where `has_grid_positions` is false. `grids` are
        those of the prepared images, in order.

        Raises:
            RequestError: the tokens that stand for images are not those of the images.
        """
        # Imports NumPy, which the process that only counts tokens does without.
        import numpy as np  # noqa: PLC0415

        from banyan.models.vision.positions import grid_positions  # noqa: PLC0415

        if not isinstance(self.tower, GridTower):
            return np.arange(len(token_ids), dtype=np.int32), len(token_ids)
        return grid_positions(
            token_ids, grids, image_token=self.image_token_id, merge=self.tower.merge
        )

    def open_weights(self) -> "TowerWeights":
        """Open the tower's weights; nothing but the headers of the files is read."""
        from banyan.models.vision.weights import TowerWeights  # noqa: PLC0415  (NumPy, as above)

        return TowerWeights(self.path)


def open_vision(directory: Path, *, max_image_tokens: int | None = None) -> VisionModel | None:
    """Open the eyes of a model; None for a model without.

    Images are scaled down to `max_image_tokens`, where the model leaves a choice.

    Raises:
        UnsupportedModelError: a tower or a way of preparing images that is not known here.
        ModelError: a file is missing, damaged, or contradicts another.
    """
    fields = Fields.read(directory / "config.json")
    named = (*fields.texts("architectures"), "")[0]
    family = find_vision_family(named)
    if family is None:
        return None
    decoder = read_configuration(directory)
    assert isinstance(decoder, ModelConfiguration), "its family says that it writes"
    token = _image_token(fields, family, decoder.vocab_size)
    vision = fields.nested("vision_config")
    if vision is None:
        raise ModelError(f"{fields.origin} lacks the field 'vision_config'")
    tower: Tower
    processor: ImageProcessor
    if family.grid_positions:
        tower, processor = _grid(vision, family, directory, decoder.hidden_size)
    else:
        tower, processor = _square(fields, vision, directory, decoder.hidden_size)
    if max_image_tokens is not None:
        processor = processor.capped(max_image_tokens)
    return VisionModel(directory, processor, tower, token, family.grid_positions)


def _grid(
    vision: Fields, family: VisionFamily, directory: Path, decoder_size: int
) -> tuple[GridTower, GridProcessor]:
    is_second = family.model_type == "qwen2_5_vl"
    tower = read_grid_tower(vision, is_second=is_second, decoder_size=decoder_size)
    processor = read_grid_processor(
        read_processor_fields(directory),
        patch_size=vision.integer("patch_size", 14),
        frames=vision.integer("temporal_patch_size", 2),
        merge=tower.merge,
    )
    return tower, processor


def _square(
    fields: Fields, vision: Fields, directory: Path, decoder_size: int
) -> tuple[SquareTower, SquareProcessor]:
    tower = read_square_tower(fields, vision, decoder_size=decoder_size)
    processor = read_square_processor(
        read_processor_fields(directory),
        patch_size=tower.patch_size,
        side_patches=tower.side_patches,
        num_tokens=tower.num_rows,
    )
    return tower, processor


def _image_token(fields: Fields, family: VisionFamily, vocab_size: int) -> int:
    names = family.image_token_fields
    name = next((name for name in names if fields.has(name)), names[0])
    token = fields.integer(name, minimum=0)
    if token >= vocab_size:
        raise ModelError(
            f"{fields.origin}: {name} {token} is no token of a vocabulary of {vocab_size}"
        )
    return token
