import struct
import tracemalloc
import zlib

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


def test_a_photograph_with_pictures_behind_it_is_shown_upright_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    first = picture(12, 8)
    content = file_of(first, "MPO", save_all=True, append_images=[first], exif=exif)
    assert decode_image(content).size == image_size(content) == (8, 12)


def test_a_turn_that_is_no_turn_changes_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    content = file_of(picture(12, 8), "JPEG", exif=exif)
    assert decode_image(content).size == image_size(content) == (12, 8)


def test_transparent_pixels_are_white() -> None:
    content = file_of(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))
    assert decode_image(content).getpixel((0, 0)) == (255, 255, 255)


def test_transparent_parts_are_white_in_every_strip_of_a_large_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = Image.new("RGBA", (5, 7), (0, 0, 0, 128))
    image.putpixel((4, 6), (0, 100, 0, 255))
    image.putpixel((0, 0), (9, 9, 9, 0))
    white = Image.new("RGBA", image.size, "white")
    expected = Image.alpha_composite(white, image).convert("RGB").tobytes()
    for num_pixels in (1, 10, 1000):
        monkeypatch.setattr("banyan.models.vision.image_file._STRIP_PIXELS", num_pixels)
        assert decode_image(file_of(image)).tobytes() == expected
    palette = Image.new("P", (2, 3), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 2), 0)
    shown = decode_image(file_of(palette, transparency=0))
    assert (shown.getpixel((0, 0)), shown.getpixel((1, 2))) == ((0, 0, 255), (255, 255, 255))


def test_sixteen_bits_of_grey_keep_their_shades() -> None:
    image = Image.new("I;16", (3, 1))
    for column, value in enumerate((0, 0x8012, 0xFFFF)):
        image.putpixel((column, 0), value)
    for content in (file_of(image), file_of(image, transparency=0)):
        shown = decode_image(content)
        assert [shown.getpixel((column, 0)) for column in range(3)] == [
            (0, 0, 0),
            (128, 128, 128),
            (255, 255, 255),
        ]


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


def in_pieces(kind: str, num_pieces: int) -> bytes:
    """A picture whose header holds so many notes of no content."""
    content = png() if kind == "PNG" else file_of(picture(8, 6), kind)
    if kind == "PNG":
        note = b"\0\0\0\0teSt" + zlib.crc32(b"teSt").to_bytes(4, "big")
        place = 33  # behind the first chunk
    else:
        note, place = b"\xff\xfe\0\2", content.index(b"\xff\xc0")
    return content[:place] + note * num_pieces + content[place:]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_of_a_million_pieces_is_refused_and_not_read_to_its_end(kind: str) -> None:
    assert image_size(in_pieces(kind, 1000)) == decode_image(in_pieces(kind, 1000)).size == (8, 6)
    for look in (image_size, decode_image):
        with pytest.raises(ImageError, match="too many pieces to be looked at"):
            look(in_pieces(kind, 20_000))


def test_pixels_in_too_many_pieces_are_refused_too() -> None:
    content = file_of(picture(8, 6))
    place = content.index(b"IEND") - 4
    note = b"\0\0\0\0teSt" + zlib.crc32(b"teSt").to_bytes(4, "big")
    content = content[:place] + note * 60_000 + content[place:]
    assert image_size(content) == (8, 6)
    with pytest.raises(ImageError, match="too many pieces"):
        decode_image(content)


def test_notes_of_a_camera_that_share_their_bytes_take_them_once() -> None:
    num_notes, num_bytes = 200, 2**19
    entries = b"".join(
        struct.pack("<HHII", 0x1000 + number, 7, num_bytes, 4096) for number in range(num_notes)
    )
    notes = b"II*\0" + struct.pack("<IH", 8, num_notes) + entries
    exif = b"Exif\0\0" + notes.ljust(4096 + num_bytes + 100_000, b"\0")
    content = file_of(picture(12, 8), "WEBP", exif=exif)
    tracemalloc.start()
    try:
        assert image_size(content) == (12, 8)
        assert tracemalloc.get_traced_memory()[1] < 20 * num_bytes
    finally:
        tracemalloc.stop()


def test_a_photograph_drawn_a_thousand_times_is_refused() -> None:
    content = file_of(picture(40, 30), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    assert decode_image(content[:-2] + last * 20 + content[-2:]).size == (40, 30)
    with pytest.raises(ImageError, match="more than 500 scans"):
        decode_image(content[:-2] + last * 600 + content[-2:])


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
