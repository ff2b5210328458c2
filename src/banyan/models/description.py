"""What a model is, from its config.json alone: enough to plan for it before its weights are here.

The door of this layer for planning. Imports no torch.
"""

from dataclasses import dataclass
from pathlib import Path

from banyan.foundation.errors import ModelError
from banyan.models.configuration import (
    EncoderConfiguration,
    ModelConfiguration,
    read_configuration_file,
)
from banyan.models.hub import find_configuration_file
from banyan.models.json_fields import Fields
from banyan.models.quantisation.settings import parse_quantisation

_FLOATS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model without its weights.

    Attributes:
        name: what the caller asked for.
        configuration: its shapes.
        weight_dtype: how the checkpoint stores its layers: "bfloat16", "float32", "float16",
            "float8", "int8" or "int4".
    """

    name: str
    configuration: ModelConfiguration
    weight_dtype: str


def describe_model(path_or_id: str, *, offline: bool = False) -> ModelDescription:
    """Read the description of a text model; from a hub only config.json is downloaded.

    Args:
        path_or_id: a model directory, an id on a hub, or a file that is a config.json itself.
        offline: never ask the hub.

    Raises:
        ModelError: not found, damaged, or no model that writes text.
        UnsupportedModelError: an architecture or feature that is not known here.
    """
    file = find_configuration_file(path_or_id, offline=offline)
    configuration = read_configuration_file(file)
    if isinstance(configuration, EncoderConfiguration):
        raise ModelError(
            f"{path_or_id} is an encoder ({configuration.architecture}) and fits on any device; "
            "only models that write text are planned"
        )
    return ModelDescription(path_or_id, configuration, _weight_dtype(file, configuration))


def _weight_dtype(file: Path, configuration: ModelConfiguration) -> str:
    fields = Fields.read(file)
    for name in ("quantization_config", "compression_config"):
        found = fields.nested(name)
        if found is not None:
            layers = parse_quantisation(found).groups[0].settings
            return f"float{layers.bits}" if layers.kind == "float" else f"int{layers.bits}"
    stored = configuration.checkpoint_dtype
    return stored if stored in _FLOATS else "bfloat16"
