import ml_dtypes
import numpy as np
import pytest

from banyan.devices.device import ALIGNMENT_BYTES
from banyan.devices.host_memory import (
    HUGE_PAGE_BYTES,
    adopt_host_array,
    allocate_host_memory,
)
from banyan.foundation.errors import EnvironmentProblem, InputError


@pytest.mark.parametrize("num_bytes", [0, 1, 4097, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES * 2 + 3])
def test_memory_is_zeroed_aligned_and_as_large_as_asked(num_bytes: int) -> None:
    buffer = allocate_host_memory(num_bytes)
    assert buffer.num_bytes == num_bytes
    assert buffer.address % ALIGNMENT_BYTES == 0
    assert not buffer.array(np.dtype(np.uint8), (num_bytes,)).any()


def test_large_memory_starts_at_a_huge_page() -> None:
    assert allocate_host_memory(HUGE_PAGE_BYTES).address % HUGE_PAGE_BYTES == 0


def test_an_array_shows_the_buffer_itself_and_outlives_it() -> None:
    buffer = allocate_host_memory(64)
    first = buffer.array(np.dtype(np.float32), (2, 3))
    buffer.array(np.dtype(np.float32), (6,))[4] = 7.0
    del buffer
    assert first.tolist() == [[0.0, 0.0, 0.0], [0.0, 7.0, 0.0]]


def test_a_buffer_refuses_an_array_larger_than_itself() -> None:
    with pytest.raises(InputError, match=r"shape \(3, 4\).*needs 48 bytes, the buffer has 47"):
        allocate_host_memory(47).array(np.dtype(np.float32), (3, 4))


def test_an_adopted_array_shares_its_memory() -> None:
    array = np.array([[1.0, 2.0]], dtype=ml_dtypes.bfloat16)
    buffer = adopt_host_array(array)
    assert buffer.num_bytes == 4
    buffer.array(array.dtype, (2,))[0] = 5.0
    assert array.tolist() == [[5.0, 2.0]]


def test_an_array_with_gaps_cannot_be_adopted() -> None:
    with pytest.raises(InputError, match="not contiguous"):
        adopt_host_array(np.zeros((4, 4))[:, ::2])


@pytest.mark.parametrize("num_bytes", [1 << 60, 1 << 80])
def test_memory_that_no_machine_has_is_a_clear_error(num_bytes: int) -> None:
    with pytest.raises(EnvironmentProblem, match=f"cannot allocate {num_bytes} bytes"):
        allocate_host_memory(num_bytes)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InputError, match="cannot allocate -1 bytes"):
        allocate_host_memory(-1)
