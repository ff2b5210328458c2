import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from banyan.foundation.errors import StorageFull
from banyan.models.safetensors_writing import PlannedTensor, write_safetensors
from banyan.models.weights import CheckpointWeights

ARRAYS: dict[str, Any] = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b.weight": np.arange(6, dtype=np.int32).reshape(2, 3),
    "c.weight": np.array(5, np.int64),
}
PLAN = [
    PlannedTensor("a.weight", "F32", (3, 4)),
    PlannedTensor("b.weight", "I32", (2, 3)),
    PlannedTensor("c.weight", "I64", ()),
]


def test_one_file_reads_back(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_safetensors(
        tmp_path, PLAN, ARRAYS.__getitem__, progress=lambda done, total: told.append((done, total))
    )
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_shards_have_an_index(tmp_path: Path) -> None:
    write_safetensors(tmp_path, PLAN, ARRAYS.__getitem__, shard_bytes=60)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 48 + 24 + 8
    assert set(index["weight_map"].values()) == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    weights = CheckpointWeights(tmp_path)
    assert np.array_equal(weights.read_stored("b.weight"), ARRAYS["b.weight"])


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="nowhere cannot be written"):
        write_safetensors(tmp_path / "nowhere", PLAN, ARRAYS.__getitem__)


def test_data_of_another_size_than_planned_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.weight has 4 bytes, not 48"):
        write_safetensors(tmp_path, PLAN, lambda name: np.zeros(1, np.float32))
