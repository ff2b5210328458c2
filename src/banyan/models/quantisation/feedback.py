"""Round a weight column by column, and let later columns make up for the errors of earlier ones.

The method of GPTQ (Frantar et al., https://arxiv.org/abs/2210.17323): with H the second moments of
the rows that reach a layer, an error in column i is best made up for in the columns after it along
row i of the upper Cholesky factor of the inverse of H. Ranges of groups are chosen as in
`rounding`, on the columns as they stand when the group begins.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banyan.models.quantisation.importers.layer import pack_nibbles
from banyan.models.quantisation.rounding import Rounding, round_groups, round_weight
from banyan.models.quantisation.scheme import LinearScheme, Parts

Array: TypeAlias = NDArray[Any]

DAMPING = 0.01
"""Share of the mean second moment that is added to each: rows are fewer than columns, or alike."""

_MIDDLE = 8


def round_for_rows(
    weight: Array, scheme: LinearScheme, rows: Array, scale_dtype: np.dtype[Any]
) -> Parts:
    """The parts of a [N, K] weight, rounded for rows [R, K] that reach the layer.

    Eight bits only weigh errors by the size of the inputs: there is little to make up for.
    """
    wide = rows.astype(np.float32)
    means = (wide * wide).mean(axis=0)
    importance = np.maximum(means, 1e-4 * means.mean() + 1e-30).astype(np.float32)
    rounding = Rounding(importance, scale_dtype)
    if scheme.format != "int4":
        return round_weight(weight, scheme, rounding)
    return round_with_feedback(weight, scheme, wide, rounding)


def round_with_feedback(
    weight: Array, scheme: LinearScheme, rows: Array, rounding: Rounding
) -> Parts:
    """The parts of a [N, K] weight in an "int4" scheme, for rows [R, K] that reach the layer."""
    factor = _factor(rows)
    left = np.array(weight, np.float32)
    columns, depth = left.shape
    numbers = np.empty((columns, depth), np.uint8)
    scales = np.empty((columns, depth // scheme.group), np.float32)
    zeros = np.full(scales.shape, _MIDDLE, np.uint8)
    for number, start in enumerate(range(0, depth, scheme.group)):
        stop = start + scheme.group
        found = round_groups(left[:, None, start:stop], scheme, _of_group(rounding, start, stop))
        scales[:, number] = found["scales"][:, 0]
        if scheme.zeros:
            zeros[:, number] = found["zeros"][:, 0]
        errors = np.empty((columns, scheme.group), np.float32)
        for place in range(start, stop):
            step, middle = scales[:, number], zeros[:, number].astype(np.float32)
            whole = np.clip(np.rint(left[:, place] / step) + middle, 0, 15)
            numbers[:, place] = whole
            error = (left[:, place] - (whole - middle) * step) / factor[place, place]
            errors[:, place - start] = error
            left[:, place:stop] -= np.outer(error, factor[place, place:stop])
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    parts: Parts = {"weight": pack_nibbles(numbers), "scales": scales}
    return parts | {"zeros": zeros} if scheme.zeros else parts


def _factor(rows: Array) -> Array:
    """The upper triangular U with U^T U the inverse of the damped second moments."""
    moments = rows.T @ rows
    moments[np.diag_indices_from(moments)] += DAMPING * np.mean(np.diag(moments)) + 1e-6
    inverse = np.linalg.inv(moments.astype(np.float64))
    lower = np.linalg.cholesky((inverse + inverse.T) / 2)
    return np.ascontiguousarray(lower.T, np.float32)


def _of_group(rounding: Rounding, start: int, stop: int) -> Rounding:
    importance = rounding.importance
    part = None if importance is None else importance[start:stop]
    return Rounding(part, rounding.scale_dtype)
