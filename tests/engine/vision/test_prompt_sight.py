from dataclasses import replace

import numpy as np
import pytest

from banyan.engine.requests.cache_key import extend_block_keys
from banyan.engine.vision.fake_eyes import IMAGE_TOKEN_ID, FakeEyes
from banyan.engine.vision.prompt_sight import PlacedImage, read_prompt
from banyan.foundation.errors import ImageError, RequestError
from banyan.models.vision.media import Media
from tests.engine.vision.prompts import image, shown


def test_a_prompt_without_pictures_shows_nothing() -> None:
    assert read_prompt([1, 2], (), None) is None


def test_positions_go_on_behind_the_prompt_where_its_pictures_let_them() -> None:
    prompt = shown("ab", image(2, 3), "c")
    sight = read_prompt(prompt.token_ids, prompt.media, FakeEyes())
    assert sight is not None
    assert (sight.images[0].start, sight.images[0].stop) == (2, 8)
    expected = [
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]
    expected[0][2:8] = [2] * 6
    assert sight.positions is not None
    assert sight.positions.tolist() == expected
    # The answer: place 9 stands at 6.
    assert sight.shift == -3
    assert sight.positions_between(8, 11).tolist() == [[5, 6, 7]] * 3
    assert sight.positions_between(20, 22).tolist() == [[17, 18]] * 3
    assert sight.positions_between(1, 3).tolist() == [[1, 2], [1, 2], [1, 2]]


def test_a_model_that_counts_tokens_has_no_positions() -> None:
    prompt = shown("ab", image(2, 3))
    sight = read_prompt(prompt.token_ids, prompt.media, FakeEyes(has_grid_positions=False))
    assert sight is not None
    assert (sight.positions, sight.shift) == (None, 0)


def test_a_model_without_eyes_says_so_and_names_the_picture() -> None:
    prompt = shown("ab", image(2, 3))
    with pytest.raises(RequestError, match="sees no images") as caught:
        read_prompt(prompt.token_ids, prompt.media, None)
    assert caught.value.parameter == "content[0]"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": 1}, "among tokens that are not 258"),
        ({"start": 90}, "outside of the prompt"),
        ({"num_tokens": 0}, "outside of the prompt"),
        ({"num_tokens": 5}, "is as large as 6"),
        ({"content": b"text"}, r"content\[0\]: these 4 bytes are not an image"),
    ],
)
def test_a_picture_that_is_not_where_it_should_be_is_refused(
    change: dict[str, object], words: str
) -> None:
    prompt = shown("ab", image(2, 3), "c")
    wrong = replace(prompt.media[0], **change)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=words) as caught:
        read_prompt(prompt.token_ids, [wrong], FakeEyes())
    assert caught.value.parameter == "content[0]"
    assert isinstance(caught.value, ImageError) == ("content" in change)


def test_pictures_may_not_overlap() -> None:
    prompt = shown(image(2, 3))
    with pytest.raises(RequestError, match="behind its successor"):
        read_prompt(prompt.token_ids, prompt.media * 2, FakeEyes())


def placed(start: int, stop: int, digest: bytes) -> PlacedImage:
    return PlacedImage(start, stop, digest, Media(b"", start, stop - start))


def test_a_block_is_known_by_its_tokens_and_the_pictures_that_reach_into_it() -> None:
    tokens = [IMAGE_TOKEN_ID] * 64
    plain: list[bytes] = []
    extend_block_keys(plain, tokens, 4)
    keys: dict[str, list[bytes]] = {}
    for name, images in (
        ("a", [placed(20, 40, b"A" * 32)]),
        ("b", [placed(20, 40, b"B" * 32)]),
        ("later", [placed(21, 40, b"A" * 32)]),
        ("two", [placed(20, 24, b"A" * 32), placed(24, 40, b"B" * 32)]),
    ):
        keys[name] = []
        extend_block_keys(keys[name], tokens, 2, images)
        extend_block_keys(keys[name], tokens, 4, images)  # step by step is the same
        at_once: list[bytes] = []
        extend_block_keys(at_once, tokens, 4, images)
        assert keys[name] == at_once
        assert [key == known for key, known in zip(keys[name], plain, strict=True)] == [
            True,
            False,
            False,
            True,
        ]
    assert len({keys[name][1] for name in keys}) == len(keys)


def test_positions_are_whole_numbers_of_the_kind_the_step_takes() -> None:
    prompt = shown("a", image(1, 1))
    sight = read_prompt(prompt.token_ids, prompt.media, FakeEyes())
    assert sight is not None
    assert sight.positions_between(0, 2).dtype == np.int64
