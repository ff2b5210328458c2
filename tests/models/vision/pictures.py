"""Files of pictures made in memory."""

import struct
import zlib
from io import BytesIO
from typing import Any

from PIL import Image


def picture(width: int, height: int, *, colour: Any = "red", mode: str = "RGB") -> Image.Image:
    """A picture of one colour with a darker corner, so that turning it shows."""
    image = Image.new(mode, (width, height), colour)
    image.paste(0 if mode in {"L", "P"} else "black", (0, 0, 1 + width // 3, 1 + height // 4))
    return image


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Write a picture."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int = 8, height: int = 6, *, colour: Any = "red") -> bytes:
    """A small PNG."""
    return file_of(picture(width, height, colour=colour))


def bomb(width: int, height: int) -> bytes:
    """A PNG of 70 bytes whose header promises as many pixels as you like."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
