"""Slices of the soak; `make soak` runs it for twenty minutes."""

import asyncio

import pytest

from benchmarks.soak import SEEDLING, Soak, soak_server

pytestmark = pytest.mark.end_to_end


def judge(soak: Soak, *, limit: float) -> None:
    assert soak.failures == []
    kinds = {name.split()[0] for name in soak.counts}
    assert kinds == {"whole", "stream", "vanish", "malformed", "stall"}
    assert {name for name in soak.counts if name.endswith(" 200")}
    assert not soak.counts["malformed 200"]
    assert soak.growth() < limit, soak.resident


def test_growth_is_measured_from_the_end_of_the_warm_up() -> None:
    soak = Soak("", list)
    soak.resident = [(float(at), 1000 if at < 25 else 2000 + at) for at in range(100)]
    assert soak.growth() == pytest.approx(92 / 2032 - 32 / 2032, abs=0.002)


def test_a_slice_of_the_soak_on_a_fake_model_grows_by_little_and_hangs_nobody() -> None:
    judge(asyncio.run(soak_server("fake", 8.0, clients=12, seed=1, adapter=None)), limit=0.05)


@pytest.mark.wide
def test_a_minute_of_the_soak_grows_by_little_and_hangs_nobody() -> None:
    soak = asyncio.run(soak_server(str(SEEDLING), 60.0, clients=24, seed=2, adapter=None))
    judge(soak, limit=0.02)
