"""The bytes of an image out of its `data:` URL (RFC 2397); nothing is ever fetched.

A server that followed an address it is given could be made to read what only it can reach, so
addresses are refused by name.
"""

import base64
import binascii

from banyan.foundation.errors import ImageError

MAX_IMAGE_BYTES = 16 * 2**20
"""Of one image's file when the operator says nothing."""

_SHOWN_CHARACTERS = 40
# Some encoders break lines.
_WITHOUT_BREAKS = {ord(character): None for character in " \t\r\n"}


def image_bytes(url: str, *, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """Return the content of a `data:...;base64,` URL.

    Raises:
        ImageError: it is an address, no base64, empty, or larger than `max_bytes`.
    """
    scheme, colon, rest = url.partition(":")
    if scheme.strip().lower() != "data" or not colon:
        shown = url if len(url) <= _SHOWN_CHARACTERS else f"{url[:_SHOWN_CHARACTERS]}..."
        raise ImageError(
            f"the image is at {shown!r}, and this server fetches nothing; send the image itself "
            "as 'data:image/png;base64,...'"
        )
    header, comma, text = rest.partition(",")
    if not comma or not header.rstrip().lower().endswith(";base64"):
        raise ImageError("the data URL is not base64; send 'data:image/png;base64,...'")
    # Four characters are three bytes: known before anything is decoded.
    if len(text) // 4 * 3 > max_bytes + 3:
        raise ImageError(
            f"the image has about {len(text) // 4 * 3} bytes; at most {max_bytes} are allowed"
        )
    try:
        content = base64.b64decode(text.translate(_WITHOUT_BREAKS), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"the image is not valid base64: {error}") from None
    if not content:
        raise ImageError("the image is empty; send its bytes behind the comma of the data URL")
    if len(content) > max_bytes:
        raise ImageError(f"the image has {len(content)} bytes; at most {max_bytes} are allowed")
    return content
