"""The closed form of host attention, with numbers that were worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.host_attention import HostAttention

RATES = st.floats(1e9, 1e13)


def _h200(compression: float) -> HostAttention:
    """Weights take 90 % of a memory of 4,800 GB/s; the host reads 150 GB/s."""
    return HostAttention(
        memory_bytes=100e9,
        weight_bytes=90e9,
        device_bytes_per_second=4800e9,
        host_bytes_per_second=150e9,
        compression=compression,
    )


@pytest.mark.parametrize(
    ("compression", "halves", "whole"), [(1, 0.84, 1.31), (2, 1.15, 1.63), (4, 1.78, 2.25)]
)
def test_gains_of_a_fast_accelerator_beside_a_slow_host(
    compression: float, halves: float, whole: float
) -> None:
    found = _h200(compression)
    assert found.gain_halves == pytest.approx(halves, abs=0.006)
    assert found.gain_whole == pytest.approx(whole, abs=0.006)
    assert found.halves_win == (halves > 1)


def test_the_best_way_depends_on_what_can_overlap() -> None:
    assert _h200(1).best(can_overlap=False) == ("device only", 1.0)
    assert _h200(2).best(can_overlap=False)[0] == "host, two halves"
    assert _h200(1).best(can_overlap=True)[0] == "host, whole batch"


@given(st.floats(1e9, 1e12), st.floats(0.01, 0.99), RATES, RATES, st.sampled_from([1, 2, 4]))
def test_halves_win_exactly_when_their_gain_exceeds_one(
    memory: float, share: float, device: float, host: float, compression: float
) -> None:
    found = HostAttention(
        memory_bytes=memory,
        weight_bytes=share * memory,
        device_bytes_per_second=device,
        host_bytes_per_second=host,
        compression=compression,
    )
    if abs(found.gain_halves - 1) > 1e-9:
        assert found.halves_win == (found.gain_halves > 1)
        assert found.halves_win == (host > found.break_even_host_bandwidth())


def test_weights_that_fill_the_memory_are_refused() -> None:
    with pytest.raises(InputError, match="leave no room"):
        HostAttention(
            memory_bytes=1e9,
            weight_bytes=1e9,
            device_bytes_per_second=1e12,
            host_bytes_per_second=1e11,
        )
    with pytest.raises(InputError, match="host_bytes_per_second is 0"):
        HostAttention(
            memory_bytes=1e9,
            weight_bytes=1e8,
            device_bytes_per_second=1e12,
            host_bytes_per_second=0,
        )
