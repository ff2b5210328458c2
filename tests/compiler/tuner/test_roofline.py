import pytest

from banyan.compiler.tuner.roofline import CACHE_SPEEDUP, VECTOR_SHARE, kernel_floor
from banyan.compiler.tuner.work import Work
from banyan.devices.profile import DeviceProfile

PROFILE = DeviceProfile(
    fingerprint="f",
    model="m",
    measured_on="2026-01-01",
    num_threads=2,
    read_bytes_per_second=100.0,
    read_bytes_per_second_one_thread=50.0,
    copy_bytes_per_second=100.0,
    operations_per_second=(("float32", 1000.0), ("bfloat16", 4000.0)),
    operations_per_second_one_thread=(("float32", 500.0),),
    launch_seconds=0.5,
)


def test_memory_bounds_a_kernel_that_moves_much() -> None:
    floor = kernel_floor(Work((("bf16", 400.0),), 0.0, (1000.0,)), (True,), PROFILE)
    assert (floor.memory_seconds, floor.arithmetic_seconds) == (10.0, 0.1)
    assert (floor.seconds, floor.bound) == (10.5, "memory")


def test_arithmetic_bounds_a_kernel_that_computes_much() -> None:
    floor = kernel_floor(Work((("f32", 9000.0),), 0.0, (100.0,)), (True,), PROFILE)
    assert (floor.seconds, floor.bound) == (9.5, "arithmetic")


def test_values_between_kernels_come_from_a_cache() -> None:
    floor = kernel_floor(Work((), 0.0, (100.0, 100.0)), (True, False), PROFILE)
    assert floor.memory_seconds == pytest.approx(1 + 1 / CACHE_SPEEDUP)


def test_elements_cost_a_share_of_the_vector_peak() -> None:
    floor = kernel_floor(Work((), 500.0, ()), (), PROFILE)
    assert floor.arithmetic_seconds == pytest.approx(500 / (VECTOR_SHARE * 1000))


def test_a_type_without_a_measured_peak_counts_as_the_slowest() -> None:
    floor = kernel_floor(Work((("i8", 1000.0),), 0.0, ()), (), PROFILE)
    assert floor.arithmetic_seconds == 1.0
