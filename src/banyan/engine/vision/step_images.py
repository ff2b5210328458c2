"""What the tokens of a step see and where they stand, as arrays for the decoder. Pure.

Dims: T tokens of the step, R rows of images in it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.engine.runner import LaneSlice
from banyan.engine.vision.prompt_sight import PromptSight

RowsOf = Callable[[bytes], NDArray[Any]]


def seen_arguments(
    arguments: Mapping[str, NDArray[Any]],
    slices: Sequence[LaneSlice],
    sights: Mapping[int, PromptSight],
    rows_of: RowsOf,
) -> dict[str, NDArray[Any]]:
    """Give the arguments of a step that images change; empty when nothing of it is seen.

    Args:
        arguments: those of the step without images.
        slices: the step.
        sights: by lane, of those sequences whose prompt has images.
        rows_of: gives the rows of an image by its digest.
    """
    positions_3T = None
    index_T = np.full(len(arguments["token_ids"]), -1, dtype=np.int32)
    pieces: list[NDArray[Any]] = []
    num_rows = place = 0
    for slice_ in slices:
        sight = sights.get(slice_.lane)
        first, place = place, place + slice_.num_tokens
        if sight is None:
            continue
        start, stop = slice_.start, slice_.start + slice_.num_tokens
        if sight.positions is not None:
            if positions_3T is None:
                positions_3T = np.tile(arguments["positions"], (3, 1))
            positions_3T[:, first:place] = sight.positions_between(start, stop)
        for image in sight.images:
            low, high = max(start, image.start), min(stop, image.stop)
            if low >= high:
                continue
            pieces.append(rows_of(image.digest)[low - image.start : high - image.start])
            begin = first + low - start
            index_T[begin : begin + high - low] = np.arange(num_rows, num_rows + high - low)
            num_rows += high - low
    changed: dict[str, NDArray[Any]] = {}
    if positions_3T is not None:
        changed["positions"] = positions_3T
    if pieces:
        changed |= {"image_rows": np.concatenate(pieces), "image_index": index_T}
    return changed
