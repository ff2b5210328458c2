import json
from pathlib import Path

import numpy as np
import pytest

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.pooling import Pooling, pool, read_pooling
from tests.models.checkpoints import change_json, write_pooling

HIDDEN = np.array([[[3.0, 0.0], [0.0, 8.0], [9.0, 9.0]]], np.float32)
MASK = np.array([[1, 1, 0]])


def test_the_mean_leaves_padding_out() -> None:
    assert pool(HIDDEN, MASK, Pooling("mean", False, 8)).tolist() == [[1.5, 4.0]]


def test_the_first_token_stands_for_the_text() -> None:
    assert pool(HIDDEN, MASK, Pooling("cls", False, 8)).tolist() == [[3.0, 0.0]]


def test_a_normalised_vector_has_length_one() -> None:
    vector = pool(HIDDEN, np.array([[1, 0, 0]]), Pooling("mean", True, 8))
    assert vector.tolist() == [[1.0, 0.0]]
    assert vector.dtype == np.float32


def test_nothing_to_pool_gives_zeros_and_no_division_by_zero() -> None:
    vector = pool(HIDDEN, np.zeros((1, 3), np.int64), Pooling("mean", True, 8))
    assert vector.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("normalise", [True, False])
def test_the_files_of_sentence_transformers_are_read(
    tmp_path: Path, mode: str, normalise: bool
) -> None:
    write_pooling(tmp_path, mode=mode, normalise=normalise)
    found = read_pooling(tmp_path, max_positions=512)
    assert (found.mode, found.normalise, found.max_tokens) == (mode, normalise, 512)


def test_the_newer_field_names_the_mode(tmp_path: Path) -> None:
    write_pooling(tmp_path, mode="mean", normalise=False)
    change_json(tmp_path / "1_Pooling" / "config.json", pooling_mode="cls")
    assert read_pooling(tmp_path, max_positions=8).mode == "cls"
    change_json(tmp_path / "1_Pooling" / "config.json", pooling_mode=["mean"])
    assert read_pooling(tmp_path, max_positions=8).mode == "mean"


def test_a_plain_encoder_is_pooled_by_the_mean(tmp_path: Path) -> None:
    assert read_pooling(tmp_path, max_positions=512) == Pooling("mean", False, 512)


def test_the_longest_text_is_the_smaller_of_both_limits(tmp_path: Path) -> None:
    path = tmp_path / "sentence_bert_config.json"
    path.write_text('{"max_seq_length": 256}')
    assert read_pooling(tmp_path, max_positions=512).max_tokens == 256
    assert read_pooling(tmp_path, max_positions=128).max_tokens == 128
    path.write_text('{"max_seq_length": null}')
    assert read_pooling(tmp_path, max_positions=128).max_tokens == 128


def test_modes_and_modules_that_are_not_known_are_named(tmp_path: Path) -> None:
    write_pooling(tmp_path, mode="mean", normalise=False)
    change_json(tmp_path / "1_Pooling" / "config.json", pooling_mode_max_tokens=True)
    with pytest.raises(UnsupportedModelError, match=r"pooling max \+ mean; supported is one of"):
        read_pooling(tmp_path, max_positions=8)
    modules = [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnsupportedModelError, match="a module of type 'Dense'"):
        read_pooling(tmp_path, max_positions=8)
    (tmp_path / "modules.json").write_text("{}")
    with pytest.raises(ModelError, match="must hold a list of modules"):
        read_pooling(tmp_path, max_positions=8)
