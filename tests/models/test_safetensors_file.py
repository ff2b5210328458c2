import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.safetensors_file import SafetensorsFile


def write(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def write_entry(path: Path, entry: Mapping[str, object], data: bytes = b"") -> Path:
    return write(path, json.dumps({"x": entry}).encode(), data)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_what_the_safetensors_library_writes_is_read_as_views(
    tmp_path: Path, dtype: type[np.generic]
) -> None:
    tensors = {
        "a": np.arange(6).reshape(2, 3).astype(dtype),
        "b": np.array(2.0).astype(dtype),
        "empty": np.zeros((0, 4)).astype(dtype),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "np"})
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert set(file.names()) == {"a", "b", "empty"}
    for name, expected in tensors.items():
        found = file.read(name)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert np.array_equal(found, expected)
    assert not file.read("a").flags.writeable
    assert not file.read("a").flags.owndata


def test_a_released_tensor_can_be_read_again(tmp_path: Path) -> None:
    values = np.arange(100_000, dtype=np.float32)
    save_file({"pad": np.ones(3, np.float32), "x": values}, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    view = file.read("x")
    assert view.sum() == values.sum()
    file.release("x")
    file.release("pad")
    assert np.array_equal(view, values)


def test_a_truncated_file_is_refused_with_both_lengths(tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-00002.safetensors"
    save_file({"x": np.zeros(100, np.float32)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(
        ModelError,
        match=rf"00001-of-00002.safetensors is truncated: it should hold {len(whole)} bytes and "
        rf"holds {len(whole) - 1}",
    ):
        SafetensorsFile(path)
    path.write_bytes(whole[:20])
    with pytest.raises(ModelError, match="is truncated: it should hold"):
        SafetensorsFile(path)


@pytest.mark.parametrize("content", [b"", b"1234", b"\xff" * 64])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"is not a safetensors file"):
        SafetensorsFile(path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[1]",
        b'{"x": 1}',
        b'{"x": {"dtype": "F32", "shape": [1]}}',
        b'{"x": {"dtype": "F32", "shape": ["a"], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0.0, 4.0]}}',
        b'{"x": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, header: bytes) -> None:
    path = write(tmp_path / "x.safetensors", header, bytes(8))
    with pytest.raises(ModelError, match="damaged safetensors header"):
        SafetensorsFile(path)


def test_a_dtype_that_is_not_read_is_named(tmp_path: Path) -> None:
    entry = {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}
    file = SafetensorsFile(write_entry(tmp_path / "x.safetensors", entry, bytes(4)))
    with pytest.raises(UnsupportedModelError, match=r"tensor x in .* is stored as F8_E4M3"):
        file.read("x")


def test_a_file_that_is_not_there_or_not_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.safetensors does not exist"):
        SafetensorsFile(tmp_path / "gone.safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        SafetensorsFile(tmp_path)


def resident_file_kilobytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssFile"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_only_what_is_read_is_resident_and_release_gives_it_back(tmp_path: Path) -> None:
    size = 32 * 2**20
    save_file({"x": np.ones(size // 4, np.float32)}, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    before = resident_file_kilobytes()
    view = file.read("x")
    untouched = resident_file_kilobytes()
    view.sum()
    touched = resident_file_kilobytes()
    file.release("x")
    released = resident_file_kilobytes()
    assert untouched - before < 4096
    assert touched - before > 24 * 1024
    assert released - before < 4096
