"""The file of a picture: its size from the header alone, and its pixels.

Owns which formats are read and how large a picture may be. The size is known before a pixel is
decoded, so that a small file that would unfold into gigabytes is refused for its header. Pillow is
an extra and imported when the first picture comes. Imports no NumPy.
"""

from io import BytesIO
from typing import TYPE_CHECKING

from banyan.foundation.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

MAX_PIXELS = 64_000_000
"""Of one picture when the operator says nothing."""

MOST_PIXELS = 89_000_000
"""Of one picture whatever the operator says: Pillow warns of larger ones."""

_ORIENTATION = 0x0112
# Only these are asked for the way their camera was held: Pillow decodes a PNG to find it.
_WITH_ORIENTATION = ("JPEG", "WEBP")
# Of the ways a camera is held, those in which width and height change places.
_TURNED = range(5, 9)


def image_size(content: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return (width, height) as the picture is looked at; decodes no pixel.

    Raises:
        ImageError: it is no picture of a known format, or has more than `max_pixels`.
    """
    with _open(content) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(
                f"the image has {width} x {height} pixels; at most {max_pixels} are allowed; send "
                "a smaller one"
            )
        is_turned = _orientation(image) in _TURNED
    return (height, width) if is_turned else (width, height)


def decode_image(content: bytes, *, max_pixels: int = MOST_PIXELS) -> "Image":
    """Return the picture in RGB, upright, the first one of several; transparent parts are white.

    Raises:
        ImageError: as `image_size`, or its pixels are damaged.
    """
    image_size(content, max_pixels=max_pixels)
    with _open(content) as image:
        try:
            image.load()
            return _upright(_on_white(image), _orientation(image))
        except Exception as error:  # decoders of damaged files fail in many ways
            raise ImageError(f"the image is damaged: {error}") from error


def _open(content: bytes) -> "Image":
    """Open a file; only its header is read until pixels are asked for."""
    try:
        from PIL import Image  # noqa: PLC0415
    except ImportError as error:
        raise ImageError(
            "this server cannot read images; it lacks Pillow (pip install banyan-compute[vision])"
        ) from error
    try:
        return Image.open(BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"the image is too large: {error}") from error
    except Exception as error:  # headers of damaged files fail in many ways
        raise ImageError(
            f"these {len(content)} bytes are not an image; send {', '.join(FORMATS)}"
        ) from error


def _orientation(image: "Image") -> int:
    """The number of Exif for how the camera was held; 1 is upright."""
    if image.format not in _WITH_ORIENTATION:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a camera's notes may be damaged; the picture is shown as it is
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


def _on_white(image: "Image") -> "Image":
    """Give RGB; what lies under transparent pixels is arbitrary, so it is not shown."""
    from PIL import Image  # noqa: PLC0415

    if not image.has_transparency_data:
        return image.convert("RGB")
    visible = image.convert("RGBA")
    white = Image.new("RGBA", visible.size, "white")
    return Image.alpha_composite(white, visible).convert("RGB")
