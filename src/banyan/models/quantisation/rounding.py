"""Round a float weight to 8 or 4 bits.

Integers: for each group a few ranges, from the full one to a cut one, are tried; each is refined to
the scale that fits its rounded numbers best, and the one with the least squared error stays. Errors
may be weighted by how large the inputs are. Works on a few rows at a time, on all cores.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import ModelError
from banyan.models.quantisation.importers.layer import pack_nibbles
from banyan.models.quantisation.scheme import LinearScheme, Parts

Array: TypeAlias = NDArray[Any]
LARGEST_FP8 = 448.0
RATIOS = {"int8": (1.0, 0.95, 0.9), "int4": tuple(np.linspace(1.0, 0.6, 13))}
"""Shares of the full range that are tried."""

_PIECE = 1 << 20
_INTEGERS = {"int8": (-127, 127), "int4": (-8, 7)}


@dataclass(frozen=True, slots=True)
class Rounding:
    """How to round, beside the scheme.

    Attributes:
        importance: [K] float32, what an error at each input weighs; None for all the same.
        scale_dtype: element type in which scales will be kept, None for float32; errors count it.
    """

    importance: NDArray[np.float32] | None = None
    scale_dtype: np.dtype[Any] | None = None


def round_weight(weight: Array, scheme: LinearScheme, rounding: Rounding | None = None) -> Parts:
    """The parts of a [N, K] weight in `scheme`, whose `rows` is 1.

    Scales are float32. A group that does not divide the width is the caller's fault.
    """
    options = rounding or Rounding()
    columns, depth = weight.shape
    step = max(1, _PIECE // max(depth, 1))
    work = _round_floats if scheme.format == "fp8" else round_groups

    def piece(start: int) -> Parts:
        rows = np.asarray(weight[start : start + step], np.float32)
        return work(rows.reshape(rows.shape[0], -1, scheme.group), scheme, options)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pieces = list(pool.map(piece, range(0, columns, step)))
    parts = {name: np.concatenate([one[name] for one in pieces]) for name in pieces[0]}
    parts["weight"] = parts["weight"].reshape(columns, depth)
    if scheme.format == "int4":
        parts["weight"] = pack_nibbles(parts["weight"])
    return parts


def require_finite(weight: Array, layer: str) -> None:
    """Refuse a weight with NaN or infinity, which no scale can hold; raises `ModelError`."""
    step = max(1, _PIECE // max(weight.shape[1], 1))
    for start in range(0, weight.shape[0], step):
        finite = np.isfinite(np.asarray(weight[start : start + step], np.float32)).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise ModelError(
                f"row {row} of the weight of layer {layer} holds NaN or infinity and cannot be "
                "rounded; the checkpoint is damaged, or keep that layer as it is"
            )


def _round_floats(groups: Array, scheme: LinearScheme, options: Rounding) -> Parts:
    largest = np.abs(groups).max(axis=-1)
    scales = _kept(largest / LARGEST_FP8, options)
    scaled = np.clip(groups / scales[..., None], -LARGEST_FP8, LARGEST_FP8)
    return {"weight": scaled.astype(ml_dtypes.float8_e4m3fn), "scales": scales}


def round_groups(groups: Array, scheme: LinearScheme, options: Rounding) -> Parts:
    """`groups` is [rows, groups, group size]; so is the weight that comes out, not packed."""
    importance: Array | float = 1.0
    if options.importance is not None:
        importance = options.importance.reshape(1, *groups.shape[1:])
    attempt = _with_zeros if scheme.zeros else _around_zero
    least = np.full(groups.shape[:2], np.inf, np.float32)
    best_scales, best_zeros = np.ones_like(least), np.zeros_like(least)
    for ratio in RATIOS[scheme.format]:
        scales, zeros, numbers = attempt(groups, scheme.format, ratio)
        scales = _kept(_fitted(groups, numbers, importance, scales), options)
        error = ((numbers * scales[..., None] - groups) ** 2 * importance).sum(axis=-1)
        better = error < least
        least = np.where(better, error, least)
        best_scales = np.where(better, scales, best_scales)
        best_zeros = np.where(better, zeros, best_zeros)
    low, high = (0, 15) if scheme.zeros else _INTEGERS[scheme.format]
    shifted = np.rint(groups / best_scales[..., None]) + best_zeros[..., None]
    numbers = np.clip(shifted, low, high)
    if scheme.format == "int8":
        return {"weight": numbers.astype(np.int8), "scales": best_scales}
    if scheme.zeros:
        zeros = best_zeros.astype(np.uint8)
        return {"weight": numbers.astype(np.uint8), "scales": best_scales, "zeros": zeros}
    return {"weight": (numbers + 8).astype(np.uint8), "scales": best_scales}


_Attempt: TypeAlias = Callable[[Array, str, float], tuple[Array, Array, Array]]


def _around_zero(groups: Array, layout: str, ratio: float) -> tuple[Array, Array, Array]:
    """Scales, zeros, and whole numbers around 0, for a share of the range."""
    low, high = _INTEGERS[layout]
    scales = _not_zero(np.abs(groups).max(axis=-1) * np.float32(ratio / high))
    numbers = np.clip(np.rint(groups / scales[..., None]), low, high)
    return scales, np.zeros_like(scales), numbers


def _with_zeros(groups: Array, layout: str, ratio: float) -> tuple[Array, Array, Array]:
    """The same with a range that need not have 0 in its middle; the numbers are less the zeros."""
    bottom = np.minimum(groups.min(axis=-1), 0) * np.float32(ratio)
    top = np.maximum(groups.max(axis=-1), 0) * np.float32(ratio)
    scales = _not_zero((top - bottom) / np.float32(15))
    zeros = np.clip(np.rint(-bottom / scales), 0, 15)
    shifted = np.rint(groups / scales[..., None]) + zeros[..., None]
    return scales, zeros, np.clip(shifted, 0, 15) - zeros[..., None]


def _fitted(groups: Array, numbers: Array, importance: Array | float, scales: Array) -> Array:
    """The scales at which these numbers come nearest to the groups."""
    size = (numbers * numbers * importance).sum(axis=-1)
    along = (numbers * groups * importance).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        better = along / size
    return np.where((size > 0) & (better > 0), better, scales)


def _kept(scales: Array, options: Rounding) -> Array:
    kept = np.float32 if options.scale_dtype is None else options.scale_dtype
    return _not_zero(scales.astype(kept).astype(np.float32))


def _not_zero(scales: Array) -> Array:
    return np.where(scales == 0, 1, scales).astype(np.float32)
