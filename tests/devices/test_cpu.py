from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from banyan.devices.cpu import CpuDevice
from banyan.devices.device import Program
from banyan.devices.discovery import find_device
from banyan.devices.native import build_shared_object
from banyan.devices.null import NullDevice
from banyan.devices.thread_pool import NATIVE_DIRECTORY, ThreadPool
from banyan.foundation.errors import (
    CompilationFailed,
    CompilerMissing,
    EnvironmentProblem,
    InputError,
)
from banyan.foundation.settings import Settings

ADD_SOURCE = r"""
#include "program_abi.h"
struct Call { const float* left; const float* right; float* sum; };
static void add(void* context, int64_t item, int64_t) {
  const Call* call = static_cast<const Call*>(context);
  call->sum[item] = call->left[item] + call->right[item];
}
extern "C" int32_t banyan_run(const banyan_runtime* runtime, void* const* buffers,
                              const int64_t* symbols) {
  if (symbols[0] < 0) return 7;
  Call call{(const float*)buffers[0], (const float*)buffers[1], (float*)buffers[2]};
  for (int64_t t = 0; t < runtime->num_threads; ++t) {
    static_cast<char*>(runtime->scratch[t])[99] = 1;
  }
  return runtime->parallel_for(runtime->pool, symbols[0], add, &call);
}
"""


@pytest.fixture(scope="module")
def cache(program_cache: Path) -> Path:
    return program_cache


@pytest.fixture(scope="module")
def program(cache: Path) -> Program:
    """A program that adds two arrays."""
    image = build_shared_object(
        ADD_SOURCE,
        flags=("-O1",),
        cache_directory=cache,
        name="add",
        include_directories=(NATIVE_DIRECTORY,),
    ).path
    return Program("add", "cpp", image, "banyan_run", 3, 1, scratch_bytes_per_thread=100)


@pytest.fixture
def open_device(cache: Path) -> Callable[[int], CpuDevice]:
    """Give CPU devices with so many threads."""

    def open_one(num_threads: int) -> CpuDevice:
        device = find_device("cpu", settings=Settings(cache), num_threads=num_threads)
        assert isinstance(device, CpuDevice)
        return device

    return open_one


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_a_program_adds_two_arrays_on_every_number_of_threads(
    program: Program, open_device: Callable[[int], CpuDevice], num_threads: int
) -> None:
    device = open_device(num_threads)
    left = device.allocate(400)
    device.copy_in(np.arange(100, dtype=np.float32), left)
    right = device.adopt(np.full(100, 0.5, dtype=np.float32))
    total = device.allocate(400)
    device.launch(device.load(program), [left, right, total], [100])
    device.synchronize()
    out = np.empty(100, dtype=np.float32)
    device.copy_out(total, out)
    device.close()
    np.testing.assert_array_equal(out, np.arange(100, dtype=np.float32) + 0.5)
    assert device.name == "cpu"
    assert device.num_threads == num_threads


def test_other_native_work_shares_the_threads(open_device: Callable[[int], CpuDevice]) -> None:
    device = open_device(2)
    pool = device.thread_pool()
    assert pool.num_threads == 2
    assert device.thread_pool() is pool
    device.close()


def test_a_program_that_reports_failure_raises_its_code(
    program: Program, open_device: Callable[[int], CpuDevice]
) -> None:
    device = open_device(1)
    buffers = [device.allocate(4)] * 3
    with pytest.raises(EnvironmentProblem, match="program 'add' failed with code 7"):
        device.launch(device.load(program), buffers, [-1])


def test_a_launch_with_too_few_buffers_is_refused(
    program: Program, open_device: Callable[[int], CpuDevice]
) -> None:
    device = open_device(1)
    with pytest.raises(InputError, match="takes 3 buffers, 0 were given"):
        device.launch(device.load(program), [], [1])


def test_a_program_of_another_device_is_refused(
    program: Program, open_device: Callable[[int], CpuDevice]
) -> None:
    device = open_device(1)
    with pytest.raises(InputError, match="loaded by another device"):
        device.launch(NullDevice().load(program), [device.allocate(4)] * 3, [1])


def test_a_buffer_that_the_host_cannot_address_is_refused(
    program: Program, open_device: Callable[[int], CpuDevice]
) -> None:
    class ForeignBuffer:
        is_on_host = False
        num_bytes = 4

        def array(self, dtype: object, shape: object) -> np.ndarray:
            raise AssertionError("never read")

    device = open_device(1)
    with pytest.raises(InputError, match="cannot read a buffer of type ForeignBuffer"):
        device.launch(device.load(program), [ForeignBuffer()] * 3, [1])


def test_a_closed_device_says_so(program: Program, open_device: Callable[[int], CpuDevice]) -> None:
    device = open_device(2)
    loaded = device.load(program)
    device.close()
    device.close()
    with pytest.raises(InputError, match="closed"):
        device.launch(loaded, [device.allocate(4)] * 3, [1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None, "target": "interpreter"}, "has no shared object"),
        ({"image": Path("nowhere.so")}, "cannot load program 'add' from nowhere.so"),
        ({"entry": "no_such_symbol"}, "no_such_symbol"),
    ],
)
def test_a_program_that_cannot_be_loaded_says_why(
    program: Program,
    open_device: Callable[[int], CpuDevice],
    change: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(CompilationFailed, match=message):
        open_device(1).load(replace(program, **change))  # type: ignore[arg-type]


def test_scratch_that_no_machine_has_is_a_clear_error(
    program: Program, open_device: Callable[[int], CpuDevice]
) -> None:
    device = open_device(1)
    loaded = device.load(replace(program, scratch_bytes_per_thread=1 << 60))
    with pytest.raises(EnvironmentProblem, match="no memory for"):
        device.launch(loaded, [device.allocate(4)] * 3, [1])


def test_without_a_compiler_memory_can_still_be_used(program: Program) -> None:
    def no_pool(num_threads: int) -> ThreadPool:
        raise CompilerMissing(f"no compiler for {num_threads} threads")

    device = CpuDevice(1, no_pool)
    assert device.allocate(8).num_bytes == 8
    with pytest.raises(CompilerMissing, match="no compiler for 1 threads"):
        device.load(program)
    device.close()


def test_a_device_without_threads_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1 thread, not 0"):
        CpuDevice(0, lambda _: pytest.fail("no pool is opened"))


def test_a_program_that_was_cut_off_is_refused_before_it_ends_the_process(
    program: Program, open_device: Callable[[int], CpuDevice], tmp_path: Path
) -> None:
    assert program.image is not None
    half = tmp_path / "half.so"
    half.write_bytes(program.image.read_bytes()[: program.image.stat().st_size // 2])
    with pytest.raises(CompilationFailed, match=r"cannot load program 'add' from half\.so"):
        open_device(1).load(replace(program, image=half))
