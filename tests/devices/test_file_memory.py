from pathlib import Path

import numpy as np
import pytest

from banyan.devices import file_memory
from banyan.devices.file_memory import huge_share, map_file


def written(path: Path, num_bytes: int) -> Path:
    path.write_bytes(np.arange(num_bytes, dtype=np.uint8).tobytes())
    return path


def test_a_small_file_is_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    with written(tmp_path / "file", 5000).open("rb") as file:
        shown, is_shared = map_file(file.fileno(), 5000)
    assert is_shared
    assert (int(shown[255]), int(shown[256])) == (255, 0)
    with pytest.raises(ValueError, match="read-only"):
        shown[0] = 1


@pytest.mark.parametrize(("share", "is_shared"), [(0.0, False), (1.0, True), (None, True)])
def test_a_file_without_huge_pages_is_copied_to_memory_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float | None, is_shared: bool
) -> None:
    monkeypatch.setattr(file_memory, "_COPY_FROM_BYTES", 1000)
    monkeypatch.setattr(file_memory, "_are_huge_pages_allowed", lambda: True)
    monkeypatch.setattr(file_memory, "huge_share", lambda address, num_bytes: share)
    with written(tmp_path / "file", 5000).open("rb") as file:
        shown, found = map_file(file.fileno(), 5000)
    assert found is is_shared
    assert int(shown[300]) == 44
    assert not shown.flags.writeable


def test_the_share_of_huge_pages_of_small_memory_is_none_of_it() -> None:
    memory = np.zeros(100, np.uint8)
    share = huge_share(int(memory.ctypes.data), 100)
    assert share is None or share >= 0
    assert huge_share(1, 100) in {0, None}
