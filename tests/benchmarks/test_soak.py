"""Slices of the soak; `make soak` runs it for twenty minutes."""

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks.soak import SEEDLING, Mark, Soak, made_up_adapter, memory_of, soak_server

pytestmark = pytest.mark.end_to_end


KINDS = {"whole", "stream", "vanish", "malformed", "stall"}


def judge(soak: Soak, kinds: set[str], *, limit: float) -> None:
    assert soak.failures == []
    assert {name.split()[0] for name in soak.counts} == kinds
    assert {name for name in soak.counts if name.endswith(" 200")}
    assert not soak.counts["malformed 200"]
    assert soak.growth() < limit, soak.marks


def test_growth_is_measured_from_the_end_of_the_warm_up() -> None:
    soak = Soak("", list)
    soak.marks = [Mark(float(at), 5000, (500, 500 if at < 25 else 1500 + at)) for at in range(100)]
    assert soak.growth() == pytest.approx(60 / 5000, abs=0.001)


def test_pages_of_files_that_the_kernel_takes_back_hide_no_growth() -> None:
    soak = Soak("", list)
    soak.marks = [Mark(float(at), 5000 - 20 * at, (2000 + at,)) for at in range(100)]
    assert soak.growth() > 0.01


def test_the_memory_of_this_process_is_told_and_that_of_one_gone_is_none() -> None:
    resident, (own,) = memory_of([os.getpid()])
    assert 0 < own < resident
    assert memory_of([2**22 + 1]) == (0, ())


def test_a_slice_of_the_soak_on_a_fake_model_grows_by_little_and_hangs_nobody() -> None:
    soak = asyncio.run(soak_server("fake", 8.0, clients=12, seed=1, adapter=None))
    judge(soak, KINDS, limit=0.05)


@pytest.mark.wide
def test_a_minute_of_the_soak_with_adapters_that_come_and_go_grows_by_little_and_hangs_nobody(
    tmp_path: Path,
) -> None:
    adapter = made_up_adapter(str(SEEDLING), tmp_path)
    soak = asyncio.run(soak_server(str(SEEDLING), 60.0, clients=24, seed=2, adapter=adapter))
    judge(soak, KINDS | {"adapter"}, limit=0.02)
    assert soak.counts["adapter 200"]
