"""Texts on disk: equal ones are found again, and a folder that takes none is named."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from banyan.compiler.targets.target import keep_text
from banyan.foundation.errors import StorageFull


def test_equal_text_is_kept_once_and_other_text_beside_it(tmp_path: Path) -> None:
    first = keep_text("a", tmp_path, "program", ".txt")
    assert keep_text("a", tmp_path, "program", ".txt") == first
    assert keep_text("b", tmp_path, "program", ".txt") != first
    assert first.read_text() == "a"
    assert len(list(first.parent.iterdir())) == 2


def test_threads_of_one_process_may_keep_the_same_text_at_once(tmp_path: Path) -> None:
    text = "a" * 200_000
    with ThreadPoolExecutor(8) as pool:
        kept = [pool.submit(keep_text, text, tmp_path, "program", ".txt") for _ in range(200)]
        assert {path.result().read_text() for path in kept} == {text}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file where the folder should be")
    with pytest.raises(StorageFull, match="BANYAN_CACHE"):
        keep_text("a", tmp_path, "program", ".txt")
