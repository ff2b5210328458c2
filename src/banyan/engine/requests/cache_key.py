"""Which requests may share cached prompts, and the keys of their blocks. Pure.

Anything besides the tokens that changes the keys and values of a whole prompt, such as an adapter,
belongs into `cache_key_of`: two requests share blocks only when it is equal for both. What changes
them from some place on, such as an image, belongs into the keys of the blocks there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.engine.requests.request import Request
from banyan.engine.vision.prompt_sight import PlacedImage


class CacheKey(NamedTuple):
    """A namespace of cached prompts.

    Attributes:
        salt: set by the request; who does not know it cannot find, or time, its prompts.
        caller: who asks, when there is no salt: callers never share with each other.
        adapter: digest of the adapter that keys and values were computed with: a name may mean
            another one tomorrow, and what is kept on disk outlives this process.
    """

    salt: str
    caller: str
    adapter: str | None

    @property
    def is_lasting(self) -> bool:
        """Whether it means the same in another process: numbers of adapters do not."""
        return self.adapter is None


def cache_key_of(request: Request) -> CacheKey:
    """The namespace that a request's prompt is found in and remembered in."""
    context = request.context
    return CacheKey(
        salt=context.cache_salt,
        caller="" if context.cache_salt else context.caller,
        adapter=None if request.adapter is None else request.adapter.digest,
    )


def extend_block_keys(
    keys: list[bytes],
    token_ids: Sequence[int],
    num_blocks: int,
    images: Sequence[PlacedImage] = (),
) -> None:
    """Append the keys of further whole blocks of `token_ids` until there are `num_blocks`.

    A key is the tokens themselves, so two different blocks can never be taken for each other; where
    `images` stand it holds their digests and places, too, for all images have the same tokens.
    """
    start, end = len(keys) * BLOCK_SIZE, num_blocks * BLOCK_SIZE
    assert end <= len(token_ids), f"{num_blocks} blocks are not full with {len(token_ids)} tokens"
    if start >= end:
        return
    tokens = np.array(token_ids[start:end], dtype=np.int32).tobytes()
    size = 4 * BLOCK_SIZE
    num_known = len(keys)
    keys.extend(tokens[place : place + size] for place in range(0, len(tokens), size))
    for image in images:
        first = max(num_known, image.start // BLOCK_SIZE)
        for block in range(first, min(num_blocks, blocks_for(image.stop))):
            offset = image.start - block * BLOCK_SIZE
            keys[block] += image.digest + offset.to_bytes(8, "little", signed=True)
