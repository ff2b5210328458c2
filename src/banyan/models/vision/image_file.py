"""The file of an image: its size from the header alone, and its pixels.

Owns which formats are read and how large an image may be. The size is known before a pixel is
decoded, so that a small file that would unfold into gigabytes is refused for its header; one cut
into so many pieces that looking at each takes seconds is refused as well. Pillow is an extra and
imported when the first image comes. Imports no NumPy.
"""

from io import BytesIO
from typing import TYPE_CHECKING, Any

from banyan.foundation.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

MAX_PIXELS = 64_000_000
"""Of one image when the operator says nothing."""

MOST_PIXELS = 89_000_000
"""Of one image whatever the operator says: Pillow warns of larger ones."""

_ORIENTATION = 0x0112
# Only these are asked for the way their camera was held: Pillow decodes a PNG to find it. MPO is a
# JPEG with further images behind the first, as telephones write it.
_WITH_ORIENTATION = ("JPEG", "MPO", "WEBP")
# Of the ways a camera is held, those in which width and height change places.
_TURNED = range(5, 9)

# Pillow reads each chunk, marker or comment with a few calls, in Python: a photograph has hundreds.
_MOST_READS_OF_HEADER = 10_000
_MOST_READS_OF_PIXELS = 100_000

# A scan of a progressive JPEG of 64 million pixels takes 30 ms and 100 bytes; encoders write ten.
# What stands before or behind the image, such as a film, may hold these two bytes by chance.
_BEGIN_OF_SCAN = b"\xff\xda"
_MOST_SCANS = 500

# What is made of an image with transparent parts at a time.
_STRIP_PIXELS = 2**20


class _CountedFile(BytesIO):
    """A file in memory that can be read from so many times."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.reads_left = _MOST_READS_OF_HEADER

    def read(self, *size: Any) -> bytes:
        """Read as any file; raises `ImageError` when that was done too often."""
        self.reads_left -= 1
        if self.reads_left < 0:
            raise ImageError(
                "the image's file is cut into too many pieces to be looked at; save it anew"
            )
        return super().read(*size)


def image_size(content: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return (width, height) as the image is looked at; decodes no pixel.

    Raises:
        ImageError: it is no image of a known format, or has more than `max_pixels`.
    """
    with _open(_CountedFile(content), len(content)) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(
                f"the image has {width} x {height} pixels; at most {max_pixels} are allowed; send "
                "a smaller one"
            )
        is_turned = _orientation(image) in _TURNED
    return (height, width) if is_turned else (width, height)


def decode_image(content: bytes, *, max_pixels: int = MOST_PIXELS) -> "Image":
    """Return the image in RGB, upright, the first one of several; transparent parts are white.

    Raises:
        ImageError: as `image_size`, or its pixels are damaged.
    """
    image_size(content, max_pixels=max_pixels)
    if content.startswith(b"\xff\xd8") and content.count(_BEGIN_OF_SCAN) > _MOST_SCANS:
        raise ImageError(f"the image is drawn in more than {_MOST_SCANS} scans; save it anew")
    file = _CountedFile(content)
    with _open(file, len(content)) as image:
        file.reads_left += _MOST_READS_OF_PIXELS
        try:
            image.load()
            return _upright(_on_white(_in_bytes(image)), _orientation(image))
        except ImageError:
            raise
        except Exception as error:  # decoders of damaged files fail in many ways
            raise ImageError(f"the image is damaged: {error}") from error


def _open(file: _CountedFile, num_bytes: int) -> "Image":
    """Open a file; only its header is read until pixels are asked for."""
    try:
        from PIL import Image  # noqa: PLC0415
    except ImportError as error:
        raise ImageError(
            "this server cannot read images; it lacks Pillow (pip install banyan-compute[vision])"
        ) from error
    try:
        return Image.open(file, formats=FORMATS)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"the image is too large: {error}") from error
    except Exception as error:  # headers of damaged files fail in many ways
        raise ImageError(
            f"these {num_bytes} bytes are not an image; send {', '.join(FORMATS)}"
        ) from error


def _orientation(image: "Image") -> int:
    """The number of Exif for how the camera was held; 1 is upright."""
    if image.format not in _WITH_ORIENTATION:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a camera's notes may be damaged; the image is shown as it is
        return 1


def _upright(image: "Image", orientation: int) -> "Image":
    from PIL.Image import Transpose  # noqa: PLC0415

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _in_bytes(image: "Image") -> "Image":
    """Keep the upper byte of 16-bit greys, as of 16-bit colours: Pillow would make them all white.

    Which of them is transparent is forgotten.
    """
    if not image.mode.startswith("I;16"):
        return image
    grey = image.point(lambda value: value * (1 / 256)).convert("L")
    grey.info.pop("transparency", None)
    return grey


def _on_white(image: "Image") -> "Image":
    """Give RGB; what lies under transparent pixels is arbitrary, so it is not shown."""
    from PIL import Image  # noqa: PLC0415

    if not image.has_transparency_data:
        return image.convert("RGB")
    # In strips: three more copies of a large image are a gigabyte, and laying one over the other
    # stops every other thread until it is done.
    shown = Image.new("RGB", image.size)
    num_rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, num_rows):
        bottom = min(top + num_rows, image.height)
        visible = image.crop((0, top, image.width, bottom)).convert("RGBA")
        white = Image.new("RGBA", visible.size, "white")
        shown.paste(Image.alpha_composite(white, visible).convert("RGB"), (0, top))
    return shown
