"""From an image to what a tower wants: sizes by arithmetic alone, pixels where they are asked for.

`size_of` needs neither NumPy nor Pillow, so that the process that only reads text can count the
tokens of an image. The steps are those of the image processors of transformers, their Pillow kind.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from banyan.foundation.errors import ImageError, ModelError, UnsupportedModelError
from banyan.models.json_fields import Fields
from banyan.models.vision.images import ImageSize, PreparedImage, Scaling

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_MOST_ELONGATED = 200


class ImageProcessor(Protocol):
    """What the engine needs to bring an image before a tower."""

    def size_of(self, width: int, height: int) -> ImageSize:
        """Say how an image of so many pixels will be seen; raises `ImageError`."""
        ...

    def prepare(self, data: bytes) -> PreparedImage:
        """Unpack, scale and cut an image; raises `ImageError`."""
        ...

    def capped(self, max_tokens: int) -> "ImageProcessor":
        """Scale images down to so many tokens, where the model leaves a choice."""
        ...


@dataclass(frozen=True, slots=True)
class GridProcessor:
    """Keeps the shape of an image, as near as whole patches come to it (Qwen2-VL).

    Attributes:
        fewest_pixels, most_pixels: an image is scaled to lie between.
    """

    scaling: Scaling
    patch_size: int
    frames: int
    merge: int
    fewest_pixels: int
    most_pixels: int

    def size_of(self, width: int, height: int) -> ImageSize:
        """Say how many patches there will be.

        Raises:
            ImageError: the image is too narrow.
        """
        return self._size(*self._scaled(width, height))

    def capped(self, max_tokens: int) -> "GridProcessor":
        """Scale images down to so many tokens; but for long strips, which take one row at least."""
        most = min(self.most_pixels, max_tokens * (self.patch_size * self.merge) ** 2)
        return replace(self, most_pixels=most, fewest_pixels=min(self.fewest_pixels, most))

    def _size(self, tall: int, wide: int) -> ImageSize:
        rows, columns = tall // self.patch_size, wide // self.patch_size
        return ImageSize(rows, columns, rows * columns // self.merge**2)

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        """Height and width: multiples of a merged patch, with an area between the two limits."""
        short, long = min(width, height), max(width, height)
        if long > _MOST_ELONGATED * short:
            raise ImageError(
                f"the image has {width} x {height} pixels; its long side may be at most "
                f"{_MOST_ELONGATED} times its short one"
            )
        step = self.patch_size * self.merge
        tall, wide = round(height / step) * step, round(width / step) * step
        if tall * wide > self.most_pixels:
            shrink = math.sqrt(height * width / self.most_pixels)
            tall = max(step, math.floor(height / shrink / step) * step)
            wide = max(step, math.floor(width / shrink / step) * step)
        elif tall * wide < self.fewest_pixels:
            grow = math.sqrt(self.fewest_pixels / (height * width))
            tall = math.ceil(height * grow / step) * step
            wide = math.ceil(width * grow / step) * step
        return tall, wide

    def prepare(self, data: bytes) -> PreparedImage:
        """Unpack, scale and cut an image.

        Raises:
            ImageError: it is damaged, of no known format, too large or too narrow.
        """
        # Imports NumPy, which the process that only counts tokens does without.
        from banyan.models.vision.pixels import cut, numbers, resized  # noqa: PLC0415

        image = resized(data, self._scaled, self.scaling)
        size = self._size(image.height, image.width)
        pixels = numbers(image, self.scaling)
        patches = cut(pixels, self.patch_size, merge=self.merge, frames=self.frames)
        return PreparedImage(patches, size.grid, size.num_tokens)


@dataclass(frozen=True, slots=True)
class SquareProcessor:
    """Scales the short side, then keeps the square in the middle (CLIP, LLaVA).

    Attributes:
        short_side: pixels that the short side is scaled to; None scales both sides to `side`.
        side: pixels of the square.
        num_tokens: places that any image takes.
    """

    scaling: Scaling
    patch_size: int
    short_side: int | None
    side: int
    num_tokens: int

    def size_of(self, width: int, height: int) -> ImageSize:
        """Say how many patches there will be: the same for every image.

        Raises:
            ImageError: the image is too narrow.
        """
        self._scaled(width, height)
        patches = self.side // self.patch_size
        return ImageSize(patches, patches, self.num_tokens)

    def capped(self, max_tokens: int) -> "SquareProcessor":
        """Change nothing: every image is of the one size that the tower was made for."""
        return self

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        """Height and width before the square is cut out."""
        if self.short_side is None:
            return self.side, self.side
        short, long = min(width, height), max(width, height)
        if long > _MOST_ELONGATED * short:
            raise ImageError(
                f"the image has {width} x {height} pixels; its long side may be at most "
                f"{_MOST_ELONGATED} times its short one"
            )
        longer = int(self.short_side * long / short)
        return (longer, self.short_side) if width <= height else (self.short_side, longer)

    def prepare(self, data: bytes) -> PreparedImage:
        """Unpack, scale and cut an image.

        Raises:
            ImageError: it is damaged, of no known format, too large or too narrow.
        """
        from banyan.models.vision.pixels import cut, middle, numbers, resized  # noqa: PLC0415

        image = middle(resized(data, self._scaled, self.scaling), self.side)
        pixels = numbers(image, self.scaling)
        patches = cut(pixels, self.patch_size, merge=1, frames=1)
        count = self.side // self.patch_size
        return PreparedImage(patches, (1, count, count), self.num_tokens)


def read_processor_fields(directory: Path) -> Fields:
    """Read how images are prepared, from either of the files that may say it.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    path = directory / "preprocessor_config.json"
    if path.is_file():
        return Fields.read(path)
    whole = directory / "processor_config.json"
    inner = Fields.read(whole).nested("image_processor") if whole.is_file() else None
    if inner is None:
        raise ModelError(
            f"{path} does not exist, so nothing says how images are prepared; copy it from where "
            "the model came from"
        )
    return inner


def read_grid_processor(
    fields: Fields, *, patch_size: int, frames: int, merge: int
) -> GridProcessor:
    """Read the image processor of Qwen2-VL; the arguments are the tower's and must agree.

    Raises:
        ModelError: the file contradicts the tower, or itself.
        UnsupportedModelError: a step that is not known here.
    """
    for name, own in (
        ("patch_size", patch_size),
        ("temporal_patch_size", frames),
        ("merge_size", merge),
    ):
        if fields.integer(name, own) != own:
            raise ModelError(
                f"{fields.origin}: {name} {fields.integer(name)} differs from the tower's {own}"
            )
    size = fields.nested("size") or Fields({}, fields.origin)
    fewest = fields.integer("min_pixels", _edge(size, "shortest_edge", "min_pixels", 56 * 56))
    most = fields.integer("max_pixels", _edge(size, "longest_edge", "max_pixels", 28 * 28 * 1280))
    smallest = (patch_size * merge) ** 2
    if most < max(fewest, smallest):
        raise ModelError(
            f"{fields.origin}: at most {most} pixels leave no image of at least "
            f"{max(fewest, smallest)}"
        )
    return GridProcessor(_read_scaling(fields), patch_size, frames, merge, fewest, most)


def _edge(size: Fields, edge: str, pixels: str, default: int) -> int:
    return size.integer(edge, size.integer(pixels, default))


def read_square_processor(
    fields: Fields, *, patch_size: int, side_patches: int, num_tokens: int
) -> SquareProcessor:
    """Read the image processor of CLIP; the arguments are the tower's and must agree.

    Raises:
        ModelError: the file contradicts the tower, or itself.
        UnsupportedModelError: a step that is not known here.
    """
    if fields.flag("do_pad", False):
        raise UnsupportedModelError(
            f"{fields.origin} asks for images padded to a square (do_pad); supported is the square "
            "in the middle"
        )
    side, short_side = _square_side(fields), None
    sides = {side}
    size = fields.values.get("size")
    if not isinstance(size, dict):
        short_side = fields.integer("size", 224)
    elif size.get("shortest_edge") is not None:
        short_side = Fields(size, fields.origin).integer("shortest_edge")
    else:
        sides = {Fields(size, fields.origin).integer(name) for name in ("height", "width")}
    if sides != {side} or (short_side or side) < side or side // patch_size != side_patches:
        raise ModelError(
            f"{fields.origin}: size {fields.values.get('size')} and crop_size "
            f"{fields.values.get('crop_size')} do not give the tower's square of "
            f"{side_patches} x {side_patches} patches of {patch_size} pixels"
        )
    return SquareProcessor(_read_scaling(fields), patch_size, short_side, side, num_tokens)


def _square_side(fields: Fields) -> int:
    """Pixels of the square that is kept."""
    name = "crop_size" if fields.flag("do_center_crop", True) else "size"
    found = fields.values.get(name)
    if not isinstance(found, dict):
        return fields.integer(name, 224)
    sides = Fields(found, fields.origin)
    if sides.integer("height") != sides.integer("width"):
        raise UnsupportedModelError(
            f"{fields.origin}: {name} {found} is no square; the tower sees squares only"
        )
    return sides.integer("height")


def _read_scaling(fields: Fields) -> Scaling:
    for step in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
        if not fields.flag(step, True):
            raise UnsupportedModelError(
                f"{fields.origin} leaves out a step ({step} false); supported is preparing images "
                "with all of them"
            )
    resample = fields.integer("resample", 3, minimum=0)
    if resample > 5:
        raise UnsupportedModelError(
            f"{fields.origin}: resample {resample} is no filter; known are 0 to 5, as in Pillow"
        )
    return Scaling(
        resample,
        fields.number("rescale_factor", 1 / 255),
        _channels(fields, "image_mean", _MEAN),
        _channels(fields, "image_std", _DEVIATION),
    )


def _channels(fields: Fields, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    value = fields.values.get(name)
    items = list(default) if value is None else value
    is_right = isinstance(items, list) and len(items) == 3
    if not is_right or any(isinstance(x, bool) or not isinstance(x, int | float) for x in items):
        raise ModelError(f"{fields.origin}: {name!r} must be three numbers, found {value!r}")
    return tuple(float(item) for item in items)
