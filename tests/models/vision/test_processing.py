"""Images against the image processors of transformers, the kind that uses Pillow."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from banyan.foundation.errors import ImageError, ModelError, UnsupportedModelError
from banyan.models.json_fields import Fields
from banyan.models.vision.processing import (
    GridProcessor,
    ImageProcessor,
    SquareProcessor,
    read_grid_processor,
    read_processor_fields,
    read_square_processor,
)
from tests.models.vision.pictures import file_of, png

QWEN: dict[str, Any] = {"min_pixels": 16 * 64, "max_pixels": 100 * 64, "patch_size": 4}
CLIP: dict[str, Any] = {
    "size": {"shortest_edge": 24},
    "crop_size": {"height": 24, "width": 24},
}


def grid(**changes: Any) -> GridProcessor:
    fields = Fields({**QWEN, **changes}, "preprocessor_config.json")
    return read_grid_processor(fields, patch_size=4, frames=2, merge=2)


def square(**changes: Any) -> SquareProcessor:
    fields = Fields({**CLIP, **changes}, "preprocessor_config.json")
    return read_square_processor(fields, patch_size=4, side_patches=6, num_tokens=36)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    generator = np.random.default_rng(width * 1000 + height)
    channels = {"RGB": (3,), "L": ()}[mode]
    pixels = generator.integers(0, 256, (height, width, *channels), dtype=np.uint8)
    return Image.fromarray(pixels, mode)


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("size", [(64, 64), (37, 61), (300, 20), (5, 9), (123, 250)])
def test_patches_are_those_of_transformers_to_the_bit(size: tuple[int, int], resample: int) -> None:
    picture = noise(*size)
    reference = Qwen2VLImageProcessorPil(**QWEN, resample=resample)
    expected = reference(images=[picture], return_tensors="np")
    found = grid(resample=resample).prepare(file_of(picture))
    assert found.grid == tuple(expected["image_grid_thw"][0].tolist())
    assert found.patches.dtype == np.float32
    np.testing.assert_array_equal(found.patches, expected["pixel_values"])
    assert grid().size_of(*size).grid == found.grid
    assert grid().size_of(*size).num_tokens == found.num_tokens == len(found.patches) // 4


@pytest.mark.parametrize("size", [(24, 24), (37, 61), (150, 20), (5, 9), (123, 250)])
def test_a_square_is_that_of_transformers_to_the_bit(size: tuple[int, int]) -> None:
    picture = noise(*size)
    expected = CLIPImageProcessorPil(**CLIP)(images=[picture], return_tensors="np")
    found = square().prepare(file_of(picture))
    pixels = expected["pixel_values"][0]
    patches = pixels.reshape(3, 6, 4, 6, 4).transpose(1, 3, 0, 2, 4).reshape(36, 48)
    np.testing.assert_array_equal(found.patches, patches)
    assert found.num_tokens == square().size_of(*size).num_tokens == 36


def test_a_grey_image_is_three_equal_channels() -> None:
    picture = noise(30, 40, "L")
    expected = Qwen2VLImageProcessorPil(**QWEN)(images=[picture], return_tensors="np")
    found = grid().prepare(file_of(picture, "JPEG", quality=100, subsampling=0))
    assert found.patches.shape == expected["pixel_values"].shape
    # JPEG moves a value by a step or two of 256, the deviation is about a quarter.
    assert np.abs(found.patches - expected["pixel_values"]).max() <= 8 / 256 / 0.26


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_size_of_any_image_is_that_of_transformers(width: int, height: int) -> None:
    limits = {"min_pixels": QWEN["min_pixels"], "max_pixels": QWEN["max_pixels"]}
    if max(width, height) > 200 * min(width, height):
        with pytest.raises(ImageError, match="at most 200 times"):
            grid().size_of(width, height)
        return
    tall, wide = smart_resize(height, width, factor=8, **limits)
    found = grid().size_of(width, height)
    assert (found.rows * 4, found.columns * 4) == (tall, wide)


@pytest.mark.parametrize("processor", [grid(), square()])
def test_a_thread_of_an_image_is_refused_before_it_is_scaled(processor: ImageProcessor) -> None:
    with pytest.raises(ImageError, match="2 x 900 pixels; its long side may be at most 200 times"):
        processor.size_of(2, 900)
    with pytest.raises(ImageError, match="900 x 2 pixels"):
        processor.prepare(png(900, 2))


@pytest.mark.parametrize(
    ("make", "changes", "kind", "reason"),
    [
        (grid, {"patch_size": 14}, ModelError, "patch_size 14 differs from the tower's 4"),
        (grid, {"merge_size": 4}, ModelError, "merge_size 4 differs from the tower's 2"),
        (grid, {"max_pixels": 100}, ModelError, "at most 100 pixels leave no image"),
        (grid, {"do_resize": False}, UnsupportedModelError, "do_resize false"),
        (grid, {"resample": 9}, UnsupportedModelError, "resample 9 is no filter"),
        (grid, {"image_mean": 0.5}, ModelError, "'image_mean' must be three numbers"),
        (square, {"do_pad": True}, UnsupportedModelError, "do_pad"),
        (square, {"crop_size": 16}, ModelError, "6 x 6 patches of 4 pixels"),
        (square, {"size": 16}, ModelError, "6 x 6 patches of 4 pixels"),
        (square, {"crop_size": {"height": 24, "width": 12}}, UnsupportedModelError, "no square"),
    ],
)
def test_a_file_that_does_not_fit_the_tower_is_refused(
    make: Any, changes: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        make(**changes)


def test_sizes_of_every_age_of_the_file_are_read() -> None:
    size = {"shortest_edge": 16 * 64, "longest_edge": 100 * 64}
    assert grid(min_pixels=None, max_pixels=None, size=size) == grid()
    assert square(size=24, crop_size=24) == square()
    whole = square(size={"height": 24, "width": 24}, do_center_crop=False, crop_size=None)
    assert whole.short_side is None
    assert whole.prepare(png(100, 30)).num_tokens == 36


def test_the_file_is_found_alone_or_inside_another(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing says how images are prepared"):
        read_processor_fields(tmp_path)
    inside = {"image_processor": QWEN, "processor_class": "Qwen2VLProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(inside))
    assert read_processor_fields(tmp_path).values == QWEN
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP))
    assert read_processor_fields(tmp_path).values == CLIP


def test_counting_tokens_needs_no_array_library() -> None:
    script = (
        "import sys\n"
        "from banyan.models.json_fields import Fields\n"
        "from banyan.models.vision.loading import open_vision\n"
        "from banyan.models.vision.processing import read_grid_processor\n"
        "fields = Fields({}, 'file')\n"
        "size = read_grid_processor(fields, patch_size=14, frames=2, merge=2).size_of(640, 480)\n"
        "assert (size.rows, size.columns, size.num_tokens) == (34, 46, 391), size\n"
        "assert not {'numpy', 'torch', 'PIL'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@given(width=st.integers(60, 900), height=st.integers(60, 900), most=st.integers(16, 100))
def test_a_cap_bounds_the_tokens_and_changes_no_smaller_image(
    width: int, height: int, most: int
) -> None:
    full, before = (one.size_of(width, height) for one in (grid(max_pixels=10**7), grid()))
    after = grid().capped(most).size_of(width, height)
    assert after == before if full.num_tokens <= most else after.num_tokens <= most


def test_a_cap_is_kept_when_an_image_is_prepared_and_squares_stay_squares() -> None:
    capped = grid().capped(20)
    assert len(capped.prepare(png(200, 150)).patches) // 4 == capped.size_of(200, 150).num_tokens
    assert capped.size_of(200, 150).num_tokens in range(10, 21)
    assert grid().capped(10**6) == grid()
    assert square().capped(1) == square()
