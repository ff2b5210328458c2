"""The native thread pool: every item once, refusals, lazy threads, fork and speed."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from banyan.devices.native import OPTIMISED_FLAGS, Missing, build_shared_object, find_compiler
from banyan.devices.thread_pool import (
    NATIVE_DIRECTORY,
    ThreadPool,
    build_thread_pool,
    open_thread_pool,
)
from banyan.foundation.errors import InputError

# Loops that record which thread ran which item, and what nesting returned.
SOURCE = """
#include <chrono>
#include <thread>
#include "program_abi.h"
namespace {
struct Record { const banyan_runtime* runtime; int64_t* count; int64_t* thread; int32_t nested; };
void note(void* context, int64_t item, int64_t thread) {
  auto* record = static_cast<Record*>(context);
  ++record->count[item];
  record->thread[item] = thread;
  *static_cast<int64_t*>(record->runtime->scratch[thread]) += 1;
}
void slow_note(void* context, int64_t item, int64_t thread) {
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  note(context, item, thread);
}
void uneven_note(void* context, int64_t item, int64_t thread) {
  std::this_thread::sleep_for(std::chrono::milliseconds(thread == 0 ? 1 : 30));
  note(context, item, thread);
}
void nest(void* context, int64_t, int64_t thread) {
  auto* record = static_cast<Record*>(context);
  if (thread == 0) {
    record->nested = record->runtime->parallel_for(record->runtime->pool, 1, note, context);
  }
}
}
extern "C" int32_t run(const banyan_runtime* runtime, int64_t items, int64_t* count,
                       int64_t* thread, int64_t repeats, int32_t speed) {
  Record record{runtime, count, thread, 0};
  for (int64_t t = 0; t < runtime->num_threads; ++t) {
    *static_cast<int64_t*>(runtime->scratch[t]) = 0;
  }
  for (int64_t i = 0; i < repeats; ++i) {
    const banyan_task tasks[] = {note, slow_note, uneven_note};
    runtime->parallel_for(runtime->pool, items, tasks[speed], &record);
  }
  return 0;
}
extern "C" int32_t run_nested(const banyan_runtime* runtime, int64_t items, int64_t* count,
                              int64_t* thread) {
  Record record{runtime, count, thread, 0};
  runtime->parallel_for(runtime->pool, items, nest, &record);
  return record.nested;
}
extern "C" int64_t scratch_address(const banyan_runtime* runtime, int64_t thread) {
  return reinterpret_cast<int64_t>(runtime->scratch[thread]);
}
"""


@pytest.fixture(scope="module")
def cache(program_cache: Path) -> Path:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    return program_cache


@pytest.fixture(scope="module")
def loops(cache: Path) -> ctypes.CDLL:
    built = build_shared_object(
        SOURCE,
        flags=OPTIMISED_FLAGS,
        cache_directory=cache,
        name="loops",
        include_directories=(NATIVE_DIRECTORY,),
    )
    library = ctypes.CDLL(str(built.path))
    library.scratch_address.restype = ctypes.c_int64
    return library


def run(
    loops: ctypes.CDLL, pool: ThreadPool, items: int, *, repeats: int = 1, speed: str = "fast"
) -> tuple[list[int], list[int]]:
    """How often each item ran, and on which thread last."""
    count, thread = np.zeros(items, np.int64), np.full(items, 99, np.int64)
    loops.run(
        ctypes.c_void_p(pool.runtime(64)), ctypes.c_int64(items),
        ctypes.c_void_p(count.ctypes.data), ctypes.c_void_p(thread.ctypes.data),
        ctypes.c_int64(repeats), ctypes.c_int32(("fast", "slow", "uneven").index(speed)),
    )  # fmt: skip
    return count.tolist(), thread.tolist()


def tasks_of_this_process() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


@pytest.mark.parametrize("num_threads", [1, 2, 3, 5])
@pytest.mark.parametrize("items", [0, 1, 2, 7, 64, 1000])
def test_every_item_runs_exactly_once(
    loops: ctypes.CDLL, cache: Path, num_threads: int, items: int
) -> None:
    with open_thread_pool(num_threads, cache_directory=cache) as pool:
        count, _ = run(loops, pool, items, repeats=20)
    assert count == [20] * items


def test_neighbouring_items_stay_on_one_thread(loops: ctypes.CDLL, cache: Path) -> None:
    with open_thread_pool(2, cache_directory=cache) as pool:
        _, thread = run(loops, pool, 24, speed="slow")
    changes = sum(a != b for a, b in pairwise(thread))
    assert (thread[0], changes in {1, 2, 3}) == (0, True)  # two ranges; an end may be taken over


def test_a_slow_thread_leaves_its_items_to_the_others(loops: ctypes.CDLL, cache: Path) -> None:
    with open_thread_pool(2, cache_directory=cache) as pool:
        count, thread = run(loops, pool, 40, speed="uneven")
    assert count == [1] * 40
    assert thread.count(0) > 30  # fixed halves would give 20


def test_a_worker_on_the_callers_cpu_moves_away(loops: ctypes.CDLL, cache: Path) -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one CPU only")
    library = build_thread_pool(cache).path
    before = tasks_of_this_process()
    with ThreadPool(2, library=library, spin_microseconds=0) as pool:
        run(loops, pool, 4)
        (worker,) = tasks_of_this_process() - before
        here = min(allowed)
        try:
            os.sched_setaffinity(0, {here})
            os.sched_setaffinity(worker, {here})
            time.sleep(0.05)  # it parks
            for _ in range(5):
                run(loops, pool, 8, speed="slow")
            found = os.sched_getaffinity(worker)
        finally:
            os.sched_setaffinity(0, allowed)
    assert here not in found


def test_millions_of_items_are_taken_in_larger_units(loops: ctypes.CDLL, cache: Path) -> None:
    items = (1 << 23) + 5
    with open_thread_pool(2, cache_directory=cache) as pool:
        count, _ = run(loops, pool, items)
    assert count == [1] * items


def test_a_loop_inside_a_loop_is_refused(loops: ctypes.CDLL, cache: Path) -> None:
    count = np.zeros(4, np.int64)
    thread = np.zeros(4, np.int64)
    with open_thread_pool(2, cache_directory=cache) as pool:
        answer = loops.run_nested(
            ctypes.c_void_p(pool.runtime(64)), ctypes.c_int64(4),
            ctypes.c_void_p(count.ctypes.data), ctypes.c_void_p(thread.ctypes.data),
        )  # fmt: skip
        assert answer == 1
        assert count.tolist() == [0] * 4
        assert run(loops, pool, 4)[0] == [1] * 4


def test_workers_that_went_to_sleep_wake_up(loops: ctypes.CDLL, cache: Path) -> None:
    library = build_thread_pool(cache).path
    with ThreadPool(3, library=library, spin_microseconds=0) as pool:
        for _ in range(50):
            assert run(loops, pool, 6)[0] == [1] * 6
            time.sleep(0.0005)
        assert run(loops, pool, 6, speed="slow")[0] == [1] * 6


def test_python_threads_take_turns(loops: ctypes.CDLL, cache: Path) -> None:
    with open_thread_pool(2, cache_directory=cache) as pool:
        pool.runtime(64)
        results: list[list[int]] = []
        callers = [
            threading.Thread(target=lambda: results.append(run(loops, pool, 9, repeats=300)[0]))
            for _ in range(4)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert results == [[300] * 9] * 4


def test_scratch_is_aligned_distinct_and_grows(loops: ctypes.CDLL, cache: Path) -> None:
    with open_thread_pool(2, cache_directory=cache) as pool:
        for num_bytes in (100, 1000, 5 << 20):
            runtime = ctypes.c_void_p(pool.runtime(num_bytes))
            addresses = [loops.scratch_address(runtime, ctypes.c_int64(t)) for t in range(2)]
            assert all(address % 64 == 0 for address in addresses)
            assert abs(addresses[0] - addresses[1]) >= num_bytes


def test_scratch_that_cannot_be_had_is_a_clear_error(cache: Path) -> None:
    with (
        open_thread_pool(2, cache_directory=cache) as pool,
        pytest.raises(MemoryError, match="bytes of scratch on each of 2 threads"),
    ):
        pool.runtime(1 << 60)


def test_pinning_to_a_cpu_does_not_change_results(loops: ctypes.CDLL, cache: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    library = build_thread_pool(cache).path
    with ThreadPool(2, library=library, cpus=(cpu, cpu)) as pool:
        assert run(loops, pool, 10)[0] == [1] * 10


# A process of its own: threads that ended before leave stacks that new threads are given.
WITHOUT_THREADS = """
import ctypes, resource, sys
from pathlib import Path
from banyan.devices.thread_pool import ThreadPool
loops, pool = ctypes.CDLL(sys.argv[1]), ThreadPool(4, library=Path(sys.argv[2]))
runtime = ctypes.c_void_p(pool.runtime(64))
count, thread = (ctypes.c_int64 * 100)(), (ctypes.c_int64 * 100)()
pages = int(Path("/proc/self/statm").read_text().split()[0])
room = pages * resource.getpagesize() + (1 << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
for _ in range(2):
    loops.run(runtime, ctypes.c_int64(100), count, thread, ctypes.c_int64(1), ctypes.c_int32(0))
pool.close()
print(set(count), set(thread))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory as Linux does")
def test_a_system_that_refuses_threads_costs_speed_only(loops: ctypes.CDLL, cache: Path) -> None:
    pool = build_thread_pool(cache).path
    command = [sys.executable, "-c", WITHOUT_THREADS, loops._name, str(pool)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "{2} {0}"), done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_after_fork_the_child_runs_loops_alone(loops: ctypes.CDLL, cache: Path) -> None:
    with open_thread_pool(3, cache_directory=cache) as pool:
        run(loops, pool, 6)
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # ends a child that waits for threads it does not have
            count, thread = run(loops, pool, 6)
            pool.close()
            os._exit(0 if (count, thread) == ([1] * 6, [0] * 6) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert run(loops, pool, 6)[0] == [1] * 6


def test_ten_thousand_tiny_loops_do_not_sleep_in_between(loops: ctypes.CDLL, cache: Path) -> None:
    with open_thread_pool(2, cache_directory=cache) as pool:
        began = time.perf_counter()
        count, _ = run(loops, pool, 4, repeats=10_000)
        seconds = time.perf_counter() - began
    assert count == [10_000] * 4
    assert seconds < 60  # 0.01 s on idle cores; the rest is room for busy machines


@pytest.mark.parametrize(
    ("num_threads", "cpus", "message"),
    [(0, None, "at least 1 thread, not 0"), (2, (0,), "2 threads need 2 CPUs, not 1")],
)
def test_bad_arguments_are_named(
    cache: Path, num_threads: int, cpus: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ThreadPool(num_threads, library=build_thread_pool(cache).path, cpus=cpus)


def test_a_closed_pool_says_so(cache: Path) -> None:
    pool = open_thread_pool(1, cache_directory=cache)
    pool.close()
    pool.close()
    with pytest.raises(InputError, match="closed"):
        pool.runtime()
