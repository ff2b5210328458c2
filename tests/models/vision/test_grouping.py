"""Patches in the order of a tower's program, and back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from banyan.models.vision.configuration import GridTower
from banyan.models.vision.grouping import group, windows
from banyan.models.vision.images import PreparedImage


def tower(window_merges: int) -> GridTower:
    return GridTower(
        kind="qwen2_5",
        num_layers=1,
        hidden_size=8,
        intermediate_size=8,
        num_heads=1,
        activation="silu",
        patch_values=1,
        merge=2,
        output_size=8,
        window_merges=window_merges,
    )


def image(rows: int, columns: int) -> PreparedImage:
    """Every patch is its own number."""
    count = rows * columns
    patches = np.arange(1, count + 1, dtype=np.float32)[:, None]
    return PreparedImage(patches, (1, rows, columns), count // 4)


def test_windows_over_the_edge_are_filled_up() -> None:
    assert windows(2, 3, 2).tolist() == [[0, 1, 3, 4], [2, -1, 5, -1]]


def test_patches_of_one_row_lie_side_by_side_with_their_places() -> None:
    groups = group(tower(0), image(2, 4))
    assert groups.arguments["patches"][..., 0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert groups.arguments["places"].tolist() == [
        [[0, 0, 1, 1], [0, 0, 1, 1]],
        [[0, 1, 0, 1], [2, 3, 2, 3]],
    ]
    assert groups.order.tolist() == [0, 1]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_every_patch_is_in_one_window_and_the_rows_come_back_in_order(
    rows: int, columns: int, side: int
) -> None:
    prepared = image(2 * rows, 2 * columns)
    groups = group(tower(side), prepared)
    patches, present = groups.arguments["patches"], groups.arguments["present"]
    assert present.shape == patches.shape[:2]
    assert present.any(axis=1).all()
    assert (patches[..., 0][present == 0] == 0).all()
    kept = patches.reshape(-1, 4)[groups.order]
    assert kept.ravel().tolist() == prepared.patches.ravel().tolist()
