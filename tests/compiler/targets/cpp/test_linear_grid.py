"""The C++ grid covers every result exactly once, for any shape and number of threads."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.compiler.targets.cpp.registry import (
    KERNEL_DIRECTORY,
    LinearSchedule,
    MicroKernel,
    Operation,
    choose,
    linear_schedule,
)
from banyan.devices.native import OPTIMISED_FLAGS, build_shared_object
from tests.compiler.targets.cpp.kernels_under_test import BF16

SOURCE = """
#include "linear_grid.h"
extern "C" int64_t cut(int64_t rows, int64_t panels, int64_t threads, const int64_t* limits,
                       int64_t* items, int64_t room) {
  const auto grid = banyan::linear_grid(rows, panels, threads, {limits[0], limits[1], limits[2]});
  for (int64_t i = 0; i < grid.items() && i < room; ++i) {
    const auto item = banyan::linear_item(grid, i);
    const int64_t fields[5] = {item.row, item.rows, item.panel, item.panels, item.ldc};
    for (int f = 0; f < 5; ++f) items[5 * i + f] = fields[f];
  }
  return grid.items();
}
"""
Cut: TypeAlias = Callable[[int, int, int], list[tuple[int, int, int, int, int]]]


def limits_here() -> LinearSchedule:
    return linear_schedule(bf16_kernel(), cache_bytes=1 << 20)


def bf16_kernel() -> MicroKernel:
    return choose(Operation.LINEAR, "avx512_bf16", BF16, BF16)


@pytest.fixture(scope="module")
def cut(object_cache: Path) -> Cut:
    built = build_shared_object(
        SOURCE,
        flags=OPTIMISED_FLAGS,
        cache_directory=object_cache,
        name="grid",
        include_directories=(KERNEL_DIRECTORY,),
    )
    function = ctypes.CDLL(str(built.path)).cut
    function.restype = ctypes.c_int64
    function.argtypes = [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 2 + [ctypes.c_int64]
    schedule = limits_here()
    limits = np.array([schedule.max_row_block, schedule.max_panel_block, schedule.tile_bytes])

    def call(rows: int, panels: int, threads: int) -> list[tuple[int, int, int, int, int]]:
        fields = np.zeros((4096, 5), np.int64)
        count = function(rows, panels, threads, limits.ctypes.data, fields.ctypes.data, 4096)
        return [(int(a), int(b), int(c), int(d), int(e)) for a, b, c, d, e in fields[:count]]

    return call


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 700), panels=st.integers(1, 400), threads=st.integers(1, 12))
def test_items_cover_every_result_once_and_fit_the_tile(
    cut: Cut, rows: int, panels: int, threads: int
) -> None:
    covered = np.zeros((rows, panels), np.int64)
    for row, height, panel, width, ldc in cut(rows, panels, threads):
        assert height >= 1
        assert width >= 1
        assert ldc % 16 == 0
        assert ldc >= width * 16
        assert height * ldc * 4 <= limits_here().tile_bytes
        covered[row : row + height, panel : panel + width] += 1
    assert (covered == 1).all()


def test_one_row_is_cut_into_one_part_per_thread(cut: Cut) -> None:
    assert [item[2:4] for item in cut(1, 64, 2)] == [(0, 32), (32, 32)]


def test_few_columns_are_cut_by_rows_so_that_all_threads_work(cut: Cut) -> None:
    assert [item[:2] for item in cut(100, 4, 2)] == [(0, 50), (50, 50)]


def test_items_of_the_same_columns_follow_each_other(cut: Cut) -> None:
    panels = [item[2] for item in cut(1024, 64, 2)]
    assert panels == sorted(panels)


def test_a_larger_cache_takes_larger_items() -> None:
    small = linear_schedule(bf16_kernel(), cache_bytes=256 << 10)
    large = linear_schedule(bf16_kernel(), cache_bytes=2 << 20)
    assert small.tile_bytes < large.tile_bytes
