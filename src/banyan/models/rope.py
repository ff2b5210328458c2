"""Rotary position embedding as data: what config.json says about it.

Both spellings are read: `rope_theta` with `rope_scaling` (transformers 4) and `rope_parameters`
(transformers 5). The frequencies are computed in `banyan.models.rotary`; here is no torch.
"""

import math
from dataclasses import dataclass

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.json_fields import Fields

SUPPORTED_ROPE_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Positions divided by `factor`."""

    factor: float


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Long wavelengths slowed down by `factor`, short ones kept, a ramp between (Llama 3.1)."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_max_positions: int


@dataclass(frozen=True, slots=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071): by-parts interpolation and a factor on cosine and sine."""

    factor: float
    original_max_positions: int
    attention_factor: float
    beta_fast: float
    beta_slow: float
    truncate: bool


@dataclass(frozen=True, slots=True)
class Rope:
    """Base of the wavelengths and how they are scaled for long contexts (None: not at all).

    With `sections` a position is three numbers, (frame, row, column), and each pair of a head is
    turned by one of them: the first `sections[0]` pairs by the frame, the next by the row, the
    last by the column (M-RoPE, arXiv 2409.12191, section 2.1).
    """

    theta: float
    scaling: LinearScaling | Llama3Scaling | YarnScaling | None = None
    sections: tuple[int, ...] = ()

    @property
    def attention_factor(self) -> float:
        """The factor on cosine and sine."""
        return self.scaling.attention_factor if isinstance(self.scaling, YarnScaling) else 1.0


def read_rope(fields: Fields, *, default_theta: float) -> Rope:
    """Read the rope of a config.json.

    Raises:
        UnsupportedModelError: a scaling that is not known, or a partial rotation.
    """
    parameters = fields.nested("rope_parameters") or fields.nested("rope_scaling")
    theta = fields.number("rope_theta", default_theta)
    if parameters is None:
        parameters = Fields({}, fields.origin)
    if any(isinstance(value, dict) for value in parameters.values.values()):
        raise UnsupportedModelError(
            f"{fields.origin} gives each kind of layer its own rope; one rope for all layers "
            "is supported"
        )
    theta = parameters.number("rope_theta", theta)
    rotated = parameters.number(
        "partial_rotary_factor", fields.number("partial_rotary_factor", 1.0)
    )
    if rotated != 1.0:
        raise UnsupportedModelError(
            f"{fields.origin} rotates {rotated} of each head (partial_rotary_factor); "
            "only 1.0 is supported"
        )
    return Rope(theta, _read_scaling(parameters, fields))


def _read_scaling(
    parameters: Fields, fields: Fields
) -> LinearScaling | Llama3Scaling | YarnScaling | None:
    kind = parameters.text("rope_type", parameters.text("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return LinearScaling(_positive(parameters, "factor"))
    original = fields.integer(
        "original_max_position_embeddings",
        parameters.integer(
            "original_max_position_embeddings", fields.integer("max_position_embeddings")
        ),
    )
    if kind == "llama3":
        return _read_llama3(parameters, original)
    if kind == "yarn":
        return _read_yarn(parameters, original, fields.integer("max_position_embeddings"))
    raise UnsupportedModelError(
        f"{fields.origin} asks for rope type {kind!r}; supported are "
        f"{', '.join(SUPPORTED_ROPE_TYPES)}"
    )


def _read_llama3(parameters: Fields, original: int) -> Llama3Scaling:
    low = _positive(parameters, "low_freq_factor")
    high = _positive(parameters, "high_freq_factor")
    if high <= low:
        raise ModelError(
            f"{parameters.origin}: high_freq_factor {high} must be above low_freq_factor {low}"
        )
    return Llama3Scaling(_positive(parameters, "factor"), low, high, original)


def _read_yarn(parameters: Fields, original: int, max_positions: int) -> YarnScaling:
    factor = parameters.number("factor", max_positions / original)
    attention_factor = parameters.optional_number("attention_factor")
    if attention_factor is None:
        attention_factor = _yarn_attention_factor(
            factor,
            parameters.optional_number("mscale"),
            parameters.optional_number("mscale_all_dim"),
        )
    return YarnScaling(
        factor=factor,
        original_max_positions=original,
        attention_factor=attention_factor,
        beta_fast=parameters.optional_number("beta_fast") or 32.0,
        beta_slow=parameters.optional_number("beta_slow") or 1.0,
        truncate=parameters.flag("truncate", True),
    )


def _yarn_attention_factor(factor: float, scale: float | None, scale_all: float | None) -> float:
    def stretch(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if scale and scale_all:
        return stretch(scale) / stretch(scale_all)
    return stretch(1.0)


def _positive(parameters: Fields, name: str) -> float:
    value = parameters.number(name)
    if value <= 0:
        raise ModelError(f"{parameters.origin}: {name!r} must be above 0, found {value}")
    return value
