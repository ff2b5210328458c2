"""The images of one prompt, checked against its tokens. Pure but for reading headers of files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banyan.engine.vision.eyes import Eyes, MeasuredImage
from banyan.foundation.errors import ImageError, RequestError
from banyan.models.vision.media import Media

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image among the tokens `start` .. `stop` of a prompt.

    Attributes:
        digest: SHA-256 of its file: equal for images that become the same rows.
        media: its file, and the field it came in.
    """

    start: int
    stop: int
    digest: bytes
    media: Media


@dataclass(frozen=True, slots=True)
class PromptSight:
    """What one prompt shows.

    Attributes:
        images: in order of their places.
        positions: [3, tokens of the prompt]; None where tokens are just counted.
        shift: added to the place of a token behind the prompt gives its position.
    """

    images: tuple[PlacedImage, ...]
    positions: Positions | None = None
    shift: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(len(image.media.content) for image in self.images)

    def positions_between(self, start: int, stop: int) -> Positions:
        """Give the positions [3, stop - start] of tokens, those of an answer included."""
        assert self.positions is not None, "tokens of this model are counted"
        known = self.positions[:, start:stop]
        first = max(start, self.positions.shape[1])
        following = np.arange(first, stop, dtype=np.int64) + self.shift
        return np.concatenate([known, np.tile(following, (3, 1))], axis=1)


def read_prompt(
    prompt_token_ids: Sequence[int], media: Sequence[Media], eyes: Eyes | None
) -> PromptSight | None:
    """Check the images of a prompt; None when there are none.

    Raises:
        RequestError: the model sees nothing, or an image is not where it is said to be.
        ImageError: a file is no image.
    """
    if not media:
        return None
    if eyes is None:
        raise RequestError(
            "this model sees no images; send text only, or serve a vision-language model",
            parameter=media[0].place,
        )
    images: list[PlacedImage] = []
    grids = []
    before = 0
    for item in media:
        stop = item.start + item.num_tokens
        holders = prompt_token_ids[item.start : stop]
        if item.start < before or stop > len(prompt_token_ids) or item.num_tokens < 1:
            raise _misplaced(item, "outside of the prompt or behind its successor")
        if any(token_id != eyes.image_token_id for token_id in holders):
            raise _misplaced(item, f"among tokens that are not {eyes.image_token_id}")
        size = _measure(item, eyes)
        if size.num_tokens != item.num_tokens:
            raise _misplaced(item, f"as that many, but is as large as {size.num_tokens}")
        grids.append(size.grid)
        digest = hashlib.sha256(item.content).digest()
        images.append(PlacedImage(item.start, stop, digest, item))
        before = stop
    if not eyes.has_grid_positions:
        return PromptSight(tuple(images))
    positions, following = eyes.positions_of(prompt_token_ids, grids)
    shift = following - len(prompt_token_ids)
    return PromptSight(tuple(images), positions.astype(np.int64), shift)


def _measure(item: Media, eyes: Eyes) -> MeasuredImage:
    try:
        return eyes.measure(item.content)
    except ImageError as error:
        raise ImageError(f"{item.place}: {error}", parameter=item.place) from error


def _misplaced(item: Media, what: str) -> RequestError:
    return RequestError(
        f"{item.place}: the image stands at {item.num_tokens} tokens from {item.start} on, {what}",
        parameter=item.place,
    )
