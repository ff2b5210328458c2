"""Lay out the patches of one image for the program of a tower, and find its rows again. Pure.

Legend: P patches, G groups, K patches of a group, M rows of the result.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.models.vision.configuration import GridTower, Tower
from banyan.models.vision.images import PreparedImage

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Groups:
    """What a program takes, and `order`: the place in its result of each row of the image."""

    arguments: dict[str, NDArray[Any]]
    order: Ids


def group(tower: Tower, image: PreparedImage) -> Groups:
    """Lay out an image as `vision.capture` says."""
    if not isinstance(tower, GridTower):
        return Groups({"patches": image.patches[None]}, np.arange(image.num_tokens))
    places_2MU = _places(image.grid, tower.merge)
    patches_MUV = image.patches.reshape(image.num_tokens, tower.merge**2, -1)
    if not tower.window_merges:
        return Groups({"patches": patches_MUV, "places": places_2MU}, np.arange(image.num_tokens))
    _, rows, columns = image.grid
    row_of_slot_GS = windows(rows // tower.merge, columns // tower.merge, tower.window_merges)
    return _in_windows(row_of_slot_GS, patches_MUV, places_2MU)


def windows(rows: int, columns: int, side: int) -> Ids:
    """Give [G, side * side]: the rows of the result in each window, -1 where it is empty."""
    tall, wide = -(-rows // side), -(-columns // side)
    numbers = np.full((tall * side, wide * side), -1, dtype=np.int64)
    numbers[:rows, :columns] = np.arange(rows * columns).reshape(rows, columns)
    blocks = numbers.reshape(tall, side, wide, side).transpose(0, 2, 1, 3)
    return blocks.reshape(tall * wide, side * side)


def _in_windows(row_of_slot_GS: Ids, patches_MUV: NDArray[Any], places_2MU: Ids) -> Groups:
    is_filled = row_of_slot_GS >= 0
    source = np.maximum(row_of_slot_GS, 0)
    num_groups, num_slots = source.shape
    unit = places_2MU.shape[2]
    patches = patches_MUV[source] * is_filled[:, :, None, None].astype(np.float32)
    arguments = {
        "patches": patches.reshape(num_groups, num_slots * unit, -1),
        "places": places_2MU[:, source].reshape(2, num_groups, -1),
        "present": np.repeat(is_filled.astype(np.int64), unit, axis=1),
    }
    order = np.argsort(row_of_slot_GS.ravel(), kind="stable")
    return Groups(arguments, order[order.size - len(patches_MUV) :])


def _places(grid: tuple[int, int, int], merge: int) -> Ids:
    """Row and column of each patch [2, M, merge * merge]: those of one row lie side by side."""
    _, rows, columns = grid
    places = np.indices((rows, columns))
    blocks = places.reshape(2, rows // merge, merge, columns // merge, merge)
    return np.ascontiguousarray(
        blocks.transpose(0, 1, 3, 2, 4).reshape(2, -1, merge * merge), dtype=np.int64
    )
