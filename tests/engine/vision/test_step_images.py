import numpy as np

from banyan.engine.runner import LaneSlice
from banyan.engine.vision.fake_eyes import FakeEyes
from banyan.engine.vision.prompt_sight import PromptSight, read_prompt
from banyan.engine.vision.step_images import seen_arguments
from tests.engine.vision.prompts import image, shown

ROWS = np.array([[10], [11], [12], [13]])


def sight_of(*, has_grid_positions: bool) -> PromptSight:
    """Two words, a picture of four rows at 2 .. 6, a word."""
    prompt = shown("ab", image(2, 2), "c")
    eyes = FakeEyes(has_grid_positions=has_grid_positions)
    sight = read_prompt(prompt.token_ids, prompt.media, eyes)
    assert sight is not None
    return sight


def arguments(*positions: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    return {"token_ids": np.zeros(len(positions), dtype=np.int64), "positions": np.array(positions)}


def test_a_chunk_gets_the_part_of_the_picture_that_it_covers() -> None:
    # Lane 5 decodes beside; lane 1 computes its tokens 3 .. 6.
    slices = [LaneSlice(5, 9, 1, 1), LaneSlice(1, 3, 4, 1)]
    changed = seen_arguments(
        arguments(9, 3, 4, 5, 6),
        slices,
        {1: sight_of(has_grid_positions=False)},
        lambda digest: ROWS,
    )
    assert sorted(changed) == ["image_index", "image_rows"]
    assert changed["image_rows"].tolist() == [[11], [12], [13]]
    assert changed["image_index"].tolist() == [-1, 0, 1, 2, -1]
    assert changed["image_index"].dtype == np.int32


def test_rows_of_several_pictures_stand_one_behind_the_other() -> None:
    slices = [LaneSlice(1, 0, 4, 0), LaneSlice(2, 4, 3, 1)]
    sight = sight_of(has_grid_positions=False)
    changed = seen_arguments(
        arguments(0, 1, 2, 3, 4, 5, 6), slices, {1: sight, 2: sight}, lambda digest: ROWS
    )
    assert changed["image_rows"].tolist() == [[10], [11], [12], [13]]
    assert changed["image_index"].tolist() == [-1, -1, 0, 1, 2, 3, -1]


def test_positions_turn_in_three_numbers_beside_those_that_are_counted() -> None:
    slices = [LaneSlice(5, 9, 1, 1), LaneSlice(1, 5, 4, 1)]
    sight = sight_of(has_grid_positions=True)
    changed = seen_arguments(arguments(9, 5, 6, 7, 8), slices, {1: sight}, lambda digest: ROWS)
    # The last row of the picture, the word behind it, and two tokens of the answer.
    assert changed["positions"].tolist() == [
        [9, 2, 4, 5, 6],
        [9, 3, 4, 5, 6],
        [9, 3, 4, 5, 6],
    ]
    assert changed["image_rows"].tolist() == [[13]]


def test_an_answer_that_sees_no_row_any_more_is_only_placed() -> None:
    slices = [LaneSlice(1, 7, 1, 1)]
    changed = seen_arguments(
        arguments(7), slices, {1: sight_of(has_grid_positions=True)}, lambda digest: ROWS
    )
    assert sorted(changed) == ["positions"]
