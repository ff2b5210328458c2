"""Where the tokens of a prompt with images stand: frame, row and column (M-RoPE).

As in Wang et al. 2024 (arXiv 2409.12191), section 2.1: text counts on all three at once; the tokens
of an image keep the frame and count rows and columns from where the text stopped; text goes on
behind the largest number used.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import RequestError


def grid_positions(
    token_ids: Sequence[int], grids: Sequence[tuple[int, int, int]], *, image_token: int, merge: int
) -> tuple[NDArray[np.int32], int]:
    """Give the positions [3, tokens] and the position of the token that comes next.

    Args:
        token_ids: every image as so many copies of `image_token` as it has rows.
        grids: frames, rows and columns of patches of each image, in order.
        image_token: the token that stands for a row of an image.
        merge: so many patches in each direction are one row of the tower.

    Raises:
        RequestError: the copies of `image_token` are not those of the images.
    """
    ids = np.asarray(token_ids, dtype=np.int64)
    is_image = ids == image_token
    sizes = [(t, rows // merge, columns // merge) for t, rows, columns in grids]
    wanted = sum(t * rows * columns for t, rows, columns in sizes)
    if wanted != int(is_image.sum()):
        raise RequestError(
            f"the prompt holds {int(is_image.sum())} tokens of images; its {len(grids)} images "
            f"have {wanted}",
            parameter="messages",
        )
    parts: list[NDArray[np.int64]] = []
    done = following = 0
    for t, rows, columns in sizes:
        start = done + int(np.argmax(is_image[done:]))
        parts.append(_text(start - done, following))
        following += start - done
        parts.append(np.indices((t, rows, columns)).reshape(3, -1) + following)
        following += max(t, rows, columns)
        done = start + t * rows * columns
        if not is_image[start:done].all():
            raise RequestError(
                "the tokens of an image are torn apart by text; let each image stand as one piece",
                parameter="messages",
            )
    parts.append(_text(len(ids) - done, following))
    following += len(ids) - done
    return np.concatenate(parts, axis=1).astype(np.int32), following


def _text(count: int, first: int) -> NDArray[np.int64]:
    return np.broadcast_to(np.arange(first, first + count), (3, count))
