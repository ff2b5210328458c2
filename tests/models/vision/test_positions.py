"""Frame, row and column of every token of a prompt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import RequestError
from banyan.models.vision.positions import grid_positions

IMAGE = 9


def test_text_counts_on_all_three_at_once() -> None:
    positions, following = grid_positions([1, 2, 3], [], image_token=IMAGE, merge=2)
    assert positions.tolist() == [[0, 1, 2], [0, 1, 2], [0, 1, 2]]
    assert positions.dtype == np.int32
    assert following == 3


def test_an_image_counts_rows_and_columns_and_text_goes_on_behind_the_largest() -> None:
    tokens = [1, 2, *[IMAGE] * 6, 3]
    positions, following = grid_positions(tokens, [(1, 4, 6)], image_token=IMAGE, merge=2)
    assert positions.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]
    assert following == 6


def test_images_side_by_side_follow_one_another() -> None:
    tokens = [*[IMAGE] * 2, IMAGE]
    positions, following = grid_positions(
        tokens, [(1, 2, 4), (1, 2, 2)], image_token=IMAGE, merge=2
    )
    assert positions.tolist() == [[0, 0, 2], [0, 0, 2], [0, 1, 2]]
    assert following == 3


def test_a_prompt_with_other_images_than_it_holds_is_refused() -> None:
    with pytest.raises(RequestError, match=r"holds 1 tokens of images; its 1 images have 4"):
        grid_positions([1, IMAGE], [(1, 4, 4)], image_token=IMAGE, merge=2)
    with pytest.raises(RequestError, match="torn apart"):
        grid_positions([IMAGE, 1, IMAGE], [(1, 2, 4)], image_token=IMAGE, merge=2)


pieces = st.lists(
    st.one_of(st.integers(0, 5), st.tuples(st.integers(1, 4), st.integers(1, 4))), max_size=8
)


@given(pieces)
def test_tokens_of_text_never_share_a_place_and_nothing_stands_behind_what_follows(
    parts: list[int | tuple[int, int]],
) -> None:
    tokens: list[int] = []
    grids = []
    for part in parts:
        if isinstance(part, tuple):
            tokens += [IMAGE] * (part[0] * part[1])
            grids.append((1, 2 * part[0], 2 * part[1]))
        else:
            tokens += [1] * part
    positions, following = grid_positions(tokens, grids, image_token=IMAGE, merge=2)
    assert positions.shape == (3, len(tokens))
    assert following == positions.max(initial=-1) + 1
    text = positions[:, np.array(tokens, dtype=np.int64) == 1]
    assert (text[0] == text[1]).all()
    assert (np.diff(text[0]) > 0).all()
    # Every place is told apart from every other.
    assert len({tuple(column) for column in positions.T.tolist()}) == len(tokens)
