import pytest
from PIL import Image

from banyan.foundation.errors import ImageError
from banyan.models.vision.image_file import FORMATS, decode_image, image_size
from tests.models.vision.pictures import bomb, file_of, picture, png


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_its_size_and_its_pixels(kind: str) -> None:
    content = file_of(picture(12, 8), kind)
    assert image_size(content) == (12, 8)
    image = decode_image(content)
    assert (image.size, image.mode) == ((12, 8), "RGB")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photograph_is_shown_upright_and_measured_so(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = file_of(picture(12, 8), "JPEG", exif=exif, quality=95)
    expected = (8, 12) if orientation in {6, 8} else (12, 8)
    assert image_size(content) == expected
    image = decode_image(content)
    assert image.size == expected
    # The dark corner of the file, top left, has moved with the picture.
    place = {1: (1, 0), 3: (10, 7), 6: (7, 1), 8: (0, 10)}[orientation]
    pixel = image.getpixel(place)
    assert isinstance(pixel, tuple)
    assert max(pixel) < 90


def test_a_turn_that_is_no_turn_changes_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    content = file_of(picture(12, 8), "JPEG", exif=exif)
    assert decode_image(content).size == image_size(content) == (12, 8)


def test_transparent_pixels_are_white() -> None:
    content = file_of(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))
    assert decode_image(content).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16", "RGBA", "LA"])
def test_other_kinds_of_pixels_become_rgb(mode: str) -> None:
    content = file_of(Image.new(mode, (3, 5)))
    assert (decode_image(content).mode, decode_image(content).size) == ("RGB", (3, 5))


def test_what_is_no_image_is_refused() -> None:
    for content in (b"", b"GIF", b"%PDF-1.4 and so on", b"\x00" * 100):
        with pytest.raises(ImageError, match=f"these {len(content)} bytes are not an image"):
            image_size(content)


def test_a_bomb_is_refused_for_its_header_with_its_size() -> None:
    with pytest.raises(ImageError, match=r"9000 x 8000 pixels; at most 64000000 are allowed"):
        image_size(bomb(9000, 8000))
    with pytest.raises(ImageError, match="too large"):
        image_size(bomb(60000, 60000))
    with pytest.raises(ImageError, match="8 x 6 pixels; at most 47 are allowed"):
        decode_image(png(8, 6), max_pixels=47)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_damaged_pixels_are_refused_when_they_are_decoded(kind: str) -> None:
    noise = Image.effect_noise((64, 64), 100).convert("RGB")
    content = file_of(noise, kind)[:-1500]
    try:
        size = image_size(content)
    except ImageError:
        size = (64, 64)  # WebP says so from the header on
    assert size == (64, 64)
    with pytest.raises(ImageError, match=r"damaged|not an image"):
        decode_image(content)
