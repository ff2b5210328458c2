"""Stores of block contents: bounds, restarts, damage and disks that fail."""

import logging
import os
from pathlib import Path

import pytest

from banyan.engine.cache.block_store import DiskBlockStore, MemoryBlockStore
from banyan.foundation.errors import InputError


def name(number: int) -> bytes:
    return bytes([number]) * 32


def content(number: int) -> bytes:
    return bytes([number]) * 100


FILE_BYTES = 100 + 32 + 32 + len(b"banyan-block-1\n")


def disk(directory: Path, *, capacity: int = 10**6, model: str = "m") -> DiskBlockStore:
    return DiskBlockStore(directory, capacity, model_key=model)


def only_file(directory: Path) -> Path:
    (found,) = directory.rglob("*.block")
    return found


def test_memory_keeps_what_fits_and_drops_what_was_used_longest_ago() -> None:
    store = MemoryBlockStore(250)
    store.put(name(1), content(1))
    store.put(name(2), content(2))
    assert store.get(name(1)) == content(1)
    store.put(name(3), content(3))
    assert [name(n) in store for n in (1, 2, 3)] == [True, False, True]
    assert store.get(name(2)) is None


def test_memory_hands_down_what_no_longer_fits_and_everything_at_the_end(tmp_path: Path) -> None:
    below = disk(tmp_path)
    store = MemoryBlockStore(250, below)
    for number in (1, 2, 3):
        store.put(name(number), content(number))
    assert [name(n) in below for n in (1, 2, 3)] == [True, False, False]
    assert store.get(name(1)) == content(1)
    assert name(1) in store
    store.flush()
    assert [name(n) in below for n in (1, 2, 3)] == [True, True, True]


def test_a_block_on_disk_is_found_by_the_next_process(tmp_path: Path) -> None:
    disk(tmp_path).put(name(1), content(1))
    assert disk(tmp_path).get(name(1)) == content(1)
    assert disk(tmp_path).get(name(2)) is None


def test_only_the_owner_may_read_what_was_said(tmp_path: Path) -> None:
    disk(tmp_path / "new").put(name(1), content(1))
    file = only_file(tmp_path)
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


def test_another_model_never_finds_it(tmp_path: Path) -> None:
    disk(tmp_path).put(name(1), content(1))
    assert name(1) not in disk(tmp_path, model="other")


def test_the_disk_is_bounded_and_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    store = disk(tmp_path, capacity=2 * FILE_BYTES)
    for number in (1, 2, 3):
        store.put(name(number), content(number))
    assert [name(n) in store for n in (1, 2, 3)] == [False, True, True]
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.block")) == 2 * FILE_BYTES
    for file in tmp_path.rglob("*.block"):
        age = 100 if file.stem.startswith("03") else 50
        os.utime(file, (1e9 - age, 1e9 - age))
    smaller = disk(tmp_path, capacity=FILE_BYTES)
    assert [name(n) in smaller for n in (2, 3)] == [True, False]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda found: found[:-1] + b"x", "is damaged"),
        (lambda found: found[:-7], "is damaged"),
        (lambda found: b"", "belongs to another model or version"),
        (lambda found: b"x" + found[1:], "belongs to another model or version"),
    ],
    ids=["changed", "cut", "empty", "another version"],
)
def test_a_damaged_file_is_reported_removed_and_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object, sentence: str
) -> None:
    disk(tmp_path).put(name(1), content(1))
    file = only_file(tmp_path)
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    store = disk(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert store.get(name(1)) is None
    assert f"{sentence}; it is computed again" in caplog.text
    assert not file.exists()
    assert name(1) not in store


def test_a_file_under_the_name_of_another_block_is_not_taken(tmp_path: Path) -> None:
    disk(tmp_path).put(name(1), content(1))
    file = only_file(tmp_path)
    file.rename(file.with_name(name(2).hex() + ".block"))
    assert disk(tmp_path).get(name(2)) is None


def test_a_file_that_vanished_is_computed_again(tmp_path: Path) -> None:
    store = disk(tmp_path)
    store.put(name(1), content(1))
    only_file(tmp_path).unlink()
    assert store.get(name(1)) is None


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    store = disk(tmp_path)
    store.put(name(1), content(1))
    stranger = only_file(tmp_path).with_name("notes.txt")
    stranger.write_text("mine")
    assert name(1) in disk(tmp_path, capacity=1000)
    disk(tmp_path, capacity=0)
    assert stranger.read_text() == "mine"


def test_a_directory_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"prefix_store='.*file' cannot be used: .*; name a dir"):
        disk(tmp_path / "file")


def test_a_disk_that_stops_taking_blocks_is_one_warning_and_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    store = disk(tmp_path)
    monkeypatch.setattr(Path, "replace", full)
    with caplog.at_level(logging.WARNING):
        store.put(name(1), content(1))
        store.put(name(2), content(2))
    assert caplog.text.count("No space left on device") == 1
    assert name(1) not in store
    assert list(tmp_path.rglob("*")) == [only_folder for only_folder in tmp_path.iterdir()]
