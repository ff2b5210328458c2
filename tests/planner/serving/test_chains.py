import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.planner.serving.chains import chain_pass, cut_layers
from banyan.planner.serving.tables import StageTable


def table(seconds: list[float], limit: float = 1e9, fixed: float = 0.0) -> StageTable:
    layers = np.array(seconds)
    nothing = np.zeros(len(seconds))
    return StageTable(
        batches=np.array([1.0]),
        fixed=np.array([[fixed], [0.0]]),
        layers=np.stack([layers, nothing])[:, None, :],
        wire=nothing[None, :],
        head=np.zeros(1),
        weights=np.stack([np.ones(len(seconds)), nothing]),
        cache=np.stack([nothing, nothing]),
        ends=(0.0, 0.0),
        limits=(limit, 0.0),
        long_share=np.zeros(1),
        long_fixed=np.zeros(1),
        long_layers=layers[None, :],
        long_head=np.zeros(1),
    )


def test_a_device_of_half_the_speed_gets_a_third_of_the_layers() -> None:
    cut = cut_layers([table([1.0] * 9), table([2.0] * 9)], 0, 0.0)
    assert cut == ((0, 6), (6, 9))


def test_memory_moves_the_cut() -> None:
    cut = cut_layers([table([1.0] * 9, limit=4.0), table([2.0] * 9)], 0, 0.0)
    assert cut == ((0, 4), (4, 9))


def test_what_has_no_room_is_not_cut() -> None:
    assert cut_layers([table([1.0] * 9, limit=4.0), table([2.0] * 9, limit=4.0)], 0, 0.0) is None


SPEEDS = st.lists(st.sampled_from([1.0, 1.5, 2.0, 5.0]), min_size=2, max_size=3)


@settings(max_examples=50, deadline=None)
@given(SPEEDS, st.lists(st.integers(1, 9), min_size=3, max_size=7), st.integers(2, 7))
def test_the_cut_is_the_best_of_all(speeds: list[float], layers: list[int], room: int) -> None:
    tables = [table([speed * layer for layer in layers], float(room)) for speed in speeds]
    best = float("inf")
    for inner in itertools.combinations_with_replacement(range(len(layers) + 1), len(speeds) - 1):
        bounds = [0, *inner, len(layers)]
        runs = list(itertools.pairwise(bounds))
        if max(end - first for first, end in runs) <= room:
            best = min(
                best, max(s * sum(layers[a:b]) for s, (a, b) in zip(speeds, runs, strict=True))
            )
    cut = cut_layers(tables, 0, 0.0)
    if cut is None:
        assert best == float("inf")
    else:
        assert chain_pass(tables, cut, 0, 0.0).slowest == pytest.approx(best, rel=1e-5)
