from pathlib import Path

import pytest

from banyan.devices.cpu import CpuDevice
from banyan.devices.device import Program
from banyan.devices.native import OPTIMISED_FLAGS, build_shared_object
from banyan.devices.recorder import LaunchRecorder
from banyan.devices.thread_pool import NATIVE_DIRECTORY, open_thread_pool
from banyan.foundation.errors import EnvironmentProblem

SOURCE = """
#include <thread>
#include <chrono>
#include "program_abi.h"
namespace {
void sleep(void*, int64_t, int64_t) { std::this_thread::sleep_for(std::chrono::milliseconds(3)); }
void nothing(void*, int64_t, int64_t) {}
}
extern "C" int32_t run(const banyan_runtime* runtime, void* const*, const int64_t* symbols) {
  runtime->parallel_for(runtime->pool, 1, sleep, nullptr);
  runtime->parallel_for(runtime->pool, 0, nothing, nullptr);
  runtime->parallel_for(runtime->pool, 5, nothing, nullptr);
  return static_cast<int32_t>(symbols[0]);
}
"""


@pytest.fixture
def program(program_cache: Path) -> Program:
    built = build_shared_object(
        SOURCE,
        flags=OPTIMISED_FLAGS,
        cache_directory=program_cache,
        name="recorded",
        include_directories=(NATIVE_DIRECTORY,),
    )
    return Program("recorded", "cpp", built.path, "run", 0, 1, 0)


def test_every_launch_is_noted_in_order_with_its_time(
    program: Program, program_cache: Path
) -> None:
    device = CpuDevice(2, lambda n: open_thread_pool(n, cache_directory=program_cache))
    recorder = LaunchRecorder(program_cache)
    loaded = device.load(program)
    device.record(recorder)
    device.launch(loaded, [], [0])
    slow, empty, quick = recorder.launches
    assert slow.seconds >= 0.003
    assert slow.end <= empty.begin <= empty.end <= quick.begin
    device.record(None)
    device.launch(loaded, [], [0])
    assert len(recorder.launches) == 3
    recorder.clear()
    assert recorder.launches == []
    device.close()


def test_a_program_that_fails_still_says_so(program: Program, program_cache: Path) -> None:
    device = CpuDevice(1, lambda n: open_thread_pool(n, cache_directory=program_cache))
    recorder = LaunchRecorder(program_cache)
    device.record(recorder)
    with pytest.raises(EnvironmentProblem, match="code 7"):
        device.launch(device.load(program), [], [7])
    assert len(recorder.launches) == 3
    device.close()
