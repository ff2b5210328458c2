"""Batches by length and back into order, on a fake encoder."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.engine.pooling.encoder import EncoderRunner, split_by_length
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.models.pooling import Pooling


class FakeEncoder:
    """Hidden states that say the token and whether it is padding."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        token_ids, mask = arguments["token_ids"], arguments["attention_mask"]
        self.shapes.append(token_ids.shape)
        assert not (arguments["token_types"] * (1 - mask)).any()
        # Padding is given a wild value: pooling must leave it out.
        types = arguments["token_types"]
        hidden = np.stack([token_ids, types + 1000 * (1 - mask)], axis=-1)
        return {"hidden": hidden.astype(np.float32)}


def runner(*, normalise: bool = False) -> tuple[EncoderRunner, FakeEncoder]:
    encoder = FakeEncoder()
    pooling = Pooling("mean", normalise, max_tokens=8)
    return EncoderRunner(encoder, pooling, max_tokens=8, vocab_size=100), encoder


def prompts(*token_ids: tuple[int, ...]) -> list[PoolingPrompt]:
    return [PoolingPrompt(ids) for ids in token_ids]


def test_vectors_come_in_the_order_of_the_prompts_and_ignore_padding() -> None:
    embedding, encoder = runner()
    vectors = embedding.run(prompts((3,), (1, 2, 3), (10, 20)))
    assert vectors.tolist() == [[3.0, 0.0], [2.0, 0.0], [15.0, 0.0]]
    assert vectors.dtype == np.float32
    assert encoder.shapes == [(3, 3)]


def test_the_second_text_of_a_pair_has_its_own_token_type() -> None:
    embedding, _ = runner()
    pair = PoolingPrompt((1, 2, 3, 4), (0, 0, 0, 1))
    assert embedding.run([pair, *prompts((1,))]).tolist() == [[2.5, 0.25], [1.0, 0.0]]


def test_vectors_have_length_one_where_the_model_says_so() -> None:
    embedding, _ = runner(normalise=True)
    assert embedding.run(prompts((3,))).tolist() == [[1.0, 0.0]]


def test_no_prompts_give_no_vectors() -> None:
    assert len(runner()[0].run([])) == 0


def test_similar_lengths_share_a_batch_of_bounded_size() -> None:
    lengths = [2000, 1900, 300, 200, 100]
    assert split_by_length(range(5), lengths) == [[0, 1], [2, 3, 4]]
    assert split_by_length([0], [9000]) == [[0]]
    assert split_by_length([], []) == []
