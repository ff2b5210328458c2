"""Token ids to sentence vectors or scores: batches of similar length through an encoder.

Knows the names and shapes of the encoder's arguments. Dims: B texts, T tokens, H hidden.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.models.pooling import Pooling, pool

# Padded tokens of one batch: enough to keep every core busy, little enough to stay in cache.
_TOKENS_PER_BATCH = 4096


class EncoderModel(Protocol):
    """Anything that computes the encoder: a compiled program or a fake."""

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return "hidden" [B, T, H] or "scores" [B, labels], both float32.

        The arguments are token_ids, attention_mask and token_types.
        """
        ...


class EncoderRunner:
    """Makes one vector per prompt."""

    def __init__(
        self,
        model: EncoderModel,
        pooling: Pooling | None,
        *,
        max_tokens: int,
        vocab_size: int,
        num_token_types: int = 2,
    ) -> None:
        """Serve `model`; without `pooling` it gives scores.

        `max_tokens` is the length of the longest prompt, special tokens included. Token types that
        the model has no row for become its last one.
        """
        self._last_type = num_token_types - 1
        self._model = model
        self._pooling = pooling
        self.max_tokens = max_tokens
        self.vocab_size = vocab_size

    def run(self, prompts: Sequence[PoolingPrompt]) -> NDArray[np.float32]:
        """Return a row for each prompt, in order: [number of prompts, H or labels] float32."""
        # Similar lengths together, so that little of a batch is padding.
        lengths = [len(prompt.token_ids) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda number: -lengths[number])
        vectors: dict[int, NDArray[np.float32]] = {}
        for numbers in split_by_length(order, lengths):
            batch = self._run([prompts[number] for number in numbers])
            vectors.update(zip(numbers, batch, strict=True))
        if not vectors:
            return np.zeros((0, 0), dtype=np.float32)
        return np.stack([vectors[number] for number in range(len(prompts))])

    def _run(self, prompts: Sequence[PoolingPrompt]) -> NDArray[np.float32]:
        shape = (len(prompts), max(len(prompt.token_ids) for prompt in prompts))
        token_ids_BT = np.zeros(shape, dtype=np.int64)
        mask_BT = np.zeros(shape, dtype=np.int64)
        types_BT = np.zeros(shape, dtype=np.int64)
        for row, prompt in enumerate(prompts):
            token_ids_BT[row, : len(prompt.token_ids)] = prompt.token_ids
            mask_BT[row, : len(prompt.token_ids)] = 1
            types_BT[row, : len(prompt.token_types)] = prompt.token_types
        arguments = {
            "token_ids": token_ids_BT,
            "attention_mask": mask_BT,
            "token_types": np.minimum(types_BT, self._last_type),
        }
        result = self._model.run(arguments)
        if self._pooling is None:
            return np.array(result["scores"])
        return pool(result["hidden"], mask_BT, self._pooling)


def split_by_length(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Cut numbers, sorted by falling length, into batches of a bounded number of padded tokens."""
    batches: list[list[int]] = []
    for number in order:
        width = lengths[batches[-1][0]] if batches else 0
        if not batches or (len(batches[-1]) + 1) * width > _TOKENS_PER_BATCH:
            batches.append([])
        batches[-1].append(number)
    return batches
