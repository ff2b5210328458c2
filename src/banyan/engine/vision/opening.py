"""From the directory of a model that sees to its eyes."""

from collections.abc import Callable

import ml_dtypes
import numpy as np

from banyan.compiler.executable import Executable
from banyan.engine.vision.model_eyes import ModelEyes
from banyan.engine.vision.runner import load_vision
from banyan.foundation.settings import Settings
from banyan.models.loading import ModelDirectory
from banyan.models.quantized_model import QuantizedModel
from banyan.models.vision.loading import open_vision


def open_eyes(
    directory: ModelDirectory,
    dtype: str,
    settings: Settings,
    load: Callable[[QuantizedModel], Executable],
    max_image_tokens: int | None = None,
) -> ModelEyes | None:
    """Make the eyes of a model ready; None for one that reads text only.

    `load` compiles a graph for the device of the decoder and fills it with its weights;
    `max_image_tokens` is as in `open_vision`.

    Raises:
        ModelError: the tower cannot be used.
    """
    configuration = directory.decoder_configuration()
    if not configuration.sees_images:
        return None
    vision = open_vision(directory.path, max_image_tokens=max_image_tokens)
    assert vision is not None, "a decoder that sees has a tower"
    towers: list[Executable] = []

    def loaded(model: QuantizedModel) -> Executable:
        towers.append(load(model))
        return towers[-1]

    runner = load_vision(vision, dtype=dtype, cache_directory=settings.cache_directory, load=loaded)
    return ModelEyes(
        vision,
        runner,
        row_size=configuration.hidden_size,
        row_dtype=ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32,
        weight_bytes=sum(tower.weight_bytes for tower in towers),
    )
