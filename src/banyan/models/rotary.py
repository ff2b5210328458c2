"""Rotary position embedding in PyTorch: frequencies, angles and the rotation.

Frequencies follow `banyan.models.rope`; angles are computed once per step in float32. The order of
float32 operations is that of transformers, so that long positions give the same angles bit by bit.

Legend: T tokens, H heads, D head size.
"""

import math

import torch
from torch import Tensor, nn

from banyan.models.rope import LinearScaling, Llama3Scaling, Rope, YarnScaling


class Rotary(nn.Module):
    """Gives cosine and sine of the positions of a step."""

    inverse_frequencies: Tensor

    def __init__(self, rope: Rope, head_dim: int) -> None:
        super().__init__()
        self._attention_factor = rope.attention_factor
        frequencies = compute_inverse_frequencies(rope, head_dim)
        self._num_axes = len(rope.sections) or 1
        if rope.sections:
            frequencies = _by_axis(frequencies, rope.sections)
        self.register_buffer("inverse_frequencies", frequencies, persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Give cosine and sine, each [T, 1, D/2] float32.

        Args:
            positions: [T] int64; [3, T] for a rope with sections.
        """
        if self._num_axes == 1:
            angles = positions.float().unsqueeze(1) * self.inverse_frequencies.unsqueeze(0)
        else:
            # A pair has a frequency on one axis and zeros on the others, so the sum is exact.
            axes = positions.float().unsqueeze(2) * self.inverse_frequencies.unsqueeze(1)
            angles = axes[0] + axes[1] + axes[2]
        cosine, sine = angles.cos(), angles.sin()
        if self._attention_factor != 1.0:
            cosine, sine = cosine * self._attention_factor, sine * self._attention_factor
        return cosine.unsqueeze(1), sine.unsqueeze(1)


def _by_axis(frequencies: Tensor, sections: tuple[int, ...]) -> Tensor:
    """Give [axes, D/2]: the frequency of each pair in the row of its axis, zeros elsewhere."""
    axis_of_pair = torch.tensor(
        [axis for axis, size in enumerate(sections) for _ in range(size)], device="cpu"
    )
    axes = torch.arange(len(sections), device="cpu")
    return frequencies * (axis_of_pair == axes.unsqueeze(1))


def rotate(x_THD: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the first half of each head against the second, in float32."""
    half = x_THD.shape[-1] // 2
    x = x_THD.float()
    first, second = x[..., :half], x[..., half:]
    rotated = (first * cosine - second * sine, second * cosine + first * sine)
    return torch.cat(rotated, dim=-1).to(x_THD.dtype)


def rotate_pairs(x_THD: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate numbers next to each other, in float32; the first of all pairs come first then.

    That order is the same for queries and keys, so their products are those of any other.
    """
    x = x_THD.float()
    first, second = x[..., 0::2], x[..., 1::2]
    rotated = (first * cosine - second * sine, second * cosine + first * sine)
    return torch.cat(rotated, dim=-1).to(x_THD.dtype)


def compute_inverse_frequencies(rope: Rope, head_dim: int) -> Tensor:
    """Give the angle per position of each pair of a head: [head_dim / 2] float32, radians."""
    # The exponents are computed on the CPU whatever device the model is built on.
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64, device="cpu").float() / head_dim
    wavelengths = rope.theta**exponents
    match rope.scaling:
        case None:
            return 1.0 / wavelengths
        case LinearScaling(factor=factor):
            return (1.0 / wavelengths) / factor
        case Llama3Scaling() as scaling:
            return _scale_llama3(1.0 / wavelengths, scaling)
        case YarnScaling() as scaling:
            return _scale_yarn(wavelengths, rope.theta, head_dim, scaling)


def _scale_llama3(inverse: Tensor, scaling: Llama3Scaling) -> Tensor:
    """Llama 3.1: keep short wavelengths, divide long ones, ramp between the two limits."""
    original = scaling.original_max_positions
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    wavelengths = 2 * math.pi / inverse
    is_long, is_short = wavelengths > original / low, wavelengths < original / high
    ramp = (original / wavelengths - low) / (high - low)
    between = (1 - ramp) * inverse / scaling.factor + ramp * inverse
    scaled = torch.where(is_long, inverse / scaling.factor, inverse)
    return torch.where(is_long | is_short, scaled, between)


def _scale_yarn(wavelengths: Tensor, theta: float, head_dim: int, scaling: YarnScaling) -> Tensor:
    """YaRN, section 3.2: interpolate the pairs that turn rarely, keep those that turn often."""

    def pair_that_turns(num_turns: float) -> float:
        turned = scaling.original_max_positions / (num_turns * 2 * math.pi)
        return head_dim * math.log(turned) / (2 * math.log(theta))

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001  # a step instead of a ramp, as in the reference
    pairs = torch.arange(head_dim // 2, dtype=torch.float32, device="cpu")
    kept = 1 - torch.clamp((pairs - low) / (high - low), 0, 1)
    interpolated, original = 1.0 / (scaling.factor * wavelengths), 1.0 / wavelengths
    return interpolated * (1 - kept) + original * kept
