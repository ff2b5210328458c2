"""Packed weights on disk: found again, shared, bounded, and never believed when damaged."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.packed_cache import PackedCache, packed_key
from banyan.devices.cpu import CpuDevice
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.settings import Settings
from tests.compiler.small_graphs import mixed_graph, mixed_weights

KEY = packed_key("a model", "a graph")


def piece(value: int, size: int = 6000) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.full((size,), value, np.uint8)


def cache_in(folder: Path, *, limit_bytes: int = 2**30) -> PackedCache:
    return PackedCache(folder / "packed", limit_bytes, smallest_bytes=0)


def test_kept_weights_are_found_again_joined_ones_behind_one_another(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    assert cache.open(KEY) is None
    assert cache.keep(KEY, [[(3, piece(3))], [(1, piece(1)), (2, piece(2, 100))]])
    found = cache.open(KEY)
    assert found is not None
    assert {number: int(content[50]) for number, content in found.pieces.items()} == {
        1: 1,
        2: 2,
        3: 3,
    }
    assert found.pieces[1].ctypes.data + 6000 == found.pieces[2].ctypes.data
    assert found.pieces[1].ctypes.data % 4096 == 0
    assert not found.pieces[1].flags.writeable
    assert cache.open(packed_key("another model", "a graph")) is None


@pytest.mark.parametrize("place", [0, 20, 2 * 2**20 + 5, -5])
def test_a_damaged_entry_counts_as_absent_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    cache = cache_in(tmp_path)
    cache.keep(KEY, [[(0, piece(7))]])
    (path,) = (tmp_path / "packed").iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert cache.open(KEY) is None
    assert "cannot be used" in caplog.text
    assert cache.keep(KEY, [[(0, piece(7))]])
    assert cache.open(KEY) is not None


def test_a_file_that_was_cut_off_counts_as_absent(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    cache.keep(KEY, [[(0, piece(7))]])
    (path,) = (tmp_path / "packed").iterdir()
    os.truncate(path, path.stat().st_size - 1)
    assert cache.open(KEY) is None


def test_the_entry_used_longest_ago_goes_first(tmp_path: Path) -> None:
    size = 2 * 2**20 + 6000
    cache = cache_in(tmp_path, limit_bytes=2 * size)
    keys = [packed_key(name) for name in "abc"]
    for age, key in zip((300, 200), keys, strict=False):
        cache.keep(key, [[(0, piece(1))]])
        (path,) = (tmp_path / "packed").glob(f"{key}*")
        os.utime(path, (1e9 - age, 1e9 - age))
    assert cache.open(keys[0]) is not None  # used: now the other one is older
    cache.keep(keys[2], [[(0, piece(1))]])
    assert [cache.open(key) is not None for key in keys] == [True, False, True]


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    for name in ("old", "new"):
        (folder / f"{name}.1.part").write_bytes(b"x")
    os.utime(folder / "old.1.part", (1e9, 1e9))
    cache_in(tmp_path).keep(KEY, [[(0, piece(1))]])
    assert not (folder / "old.1.part").exists()
    assert (folder / "new.1.part").exists()


def test_weights_over_the_limit_or_on_a_folder_that_cannot_be_written_are_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not cache_in(tmp_path, limit_bytes=100).keep(KEY, [[(0, piece(1))]])
    (tmp_path / "packed").write_text("a file")
    assert not cache_in(tmp_path).keep(KEY, [[(0, piece(1))]])
    assert "the next start packs again" in caplog.text
    assert not PackedCache(tmp_path / "new", 2**30, 2**20).keep(KEY, [[(0, piece(1))]])


def test_a_program_runs_on_adopted_weights_as_on_its_own_and_can_replace_them(
    program_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    device = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=1)
    assert isinstance(device, CpuDevice)
    options = CompileOptions(program_cache, optimise=False)
    first, second = (compile_graph(mixed_graph(), device=device, options=options) for _ in "12")
    assert isinstance(first, CompiledProgram)
    assert isinstance(second, CompiledProgram)
    weights = mixed_weights()
    first.load_weights(weights)
    cache = cache_in(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert cache.keep(KEY, first.packed_weights())
    found = cache.open(KEY)
    assert found is not None
    one_less = dict(list(found.pieces.items())[1:])
    assert not second.adopt_packed(one_less)
    assert second.adopt_packed(found.pieces)
    for mine, theirs in zip(first.packed_weights(), second.packed_weights(), strict=True):
        for (number, content), (other, adopted) in zip(mine, theirs, strict=True):
            assert number == other
            np.testing.assert_array_equal(content, adopted)
            assert not adopted.flags.writeable
    second.load_weights(weights)
    assert all(
        content.flags.writeable for family in second.packed_weights() for _, content in family
    )
    device.close()
