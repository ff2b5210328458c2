"""Pixels: scaled with Pillow, then numbers, then patches, with NumPy.

The order and the types of the arithmetic are those of transformers, so that not a bit differs.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from banyan.models.vision.image_file import decode_image
from banyan.models.vision.images import Scaling

Floats = NDArray[np.float32]


def resized(data: bytes, choose: Callable[[int, int], tuple[int, int]], scaling: Scaling) -> Image:
    """Unpack an image and scale it to the height and width chosen for its width and height."""
    image = decode_image(data)
    tall, wide = choose(image.width, image.height)
    return image.resize((wide, tall), resample=Resampling(scaling.resample))


def middle(image: Image, side: int) -> Image:
    """Cut out the square in the middle; the image is at least as large."""
    top, left = (image.height - side) // 2, (image.width - side) // 2
    return image.crop((left, top, left + side, top + side))


def numbers(image: Image, scaling: Scaling) -> Floats:
    """Give [channels, height, width], scaled and normalised."""
    pixels = np.asarray(image).astype(np.float64) * scaling.factor
    mean = np.array(scaling.mean, dtype=np.float32)
    deviation = np.array(scaling.deviation, dtype=np.float32)
    normal: Floats = (pixels.astype(np.float32) - mean) / deviation
    return np.moveaxis(normal, -1, 0)


def cut(pixels: Floats, size: int, *, merge: int, frames: int) -> Floats:
    """Give patches [patches, channels * frames * size * size].

    Patches that become one row lie side by side; a still image is every frame of its patches.
    """
    channels, height, width = pixels.shape
    tall, wide = height // (size * merge), width // (size * merge)
    kept = pixels[:, : tall * merge * size, : wide * merge * size]
    blocks = kept.reshape(channels, tall, merge, size, wide, merge, size)
    patches = blocks.transpose(1, 4, 2, 5, 0, 3, 6)
    shape = (*patches.shape[:5], frames, *patches.shape[5:])
    repeated = np.broadcast_to(patches[:, :, :, :, :, None], shape)
    return repeated.reshape(tall * wide * merge**2, channels * frames * size**2)
