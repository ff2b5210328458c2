"""Speed of the packed linears as a share of this machine's own limits, measured in the same run.

    python benchmarks/kernels.py [--type bf16|f32] [--threads N] [--rounds N]

Arithmetic is compared with a loop of register-resident multiply-adds, streaming with a loop that
only reads; rounds of kernel and limit alternate, and the best of many short rounds counts. Weights
rotate through an arena far larger than the caches, so every call reads them from memory. Linears
run as in generated programs: in the compiler's blocks, on the thread pool, rounded at the end.
With one thread, processor time is measured, so that other programs disturb less.
"""

import argparse
import ctypes
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from banyan.compiler.ir.packing import panel_shape
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.registry import (
    KERNEL_DIRECTORY,
    Operation,
    choose,
    rows_per_item,
)
from banyan.compiler.tiling.options import TileOptions
from banyan.devices.host_memory import allocate_host_memory
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.devices.native import OPTIMISED_FLAGS, build_shared_object
from banyan.devices.thread_pool import NATIVE_DIRECTORY, ThreadPool, open_thread_pool
from banyan.foundation.settings import load_settings

ARENA_BYTES = 1 << 30
READ_BYTES = 1 << 26
ARITHMETIC_ROUNDS = 500_000
# (n, k) of Qwen3-0.6B: query-key-value, output, gate and up, down, vocabulary.
SHAPES = ((4096, 1024), (1024, 2048), (3072, 1024), (1024, 3072), (2048, 1024), (151936, 1024))
MANY_ROWS = (128, 512)
FEW_ROWS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Bench:
    """The built benchmark, its threads, memory and schedule."""

    library: ctypes.CDLL
    pool: ThreadPool
    blocks: TileOptions
    dtype: DType
    arena: np.ndarray
    rounds: int
    clock: Callable[[], float]

    def runtime(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(
            self.pool.runtime(self.blocks.row_block * self.blocks.panel_group * 64)
        )

    def arithmetic(self, _: int) -> float:
        """Operations per second of the arithmetic loop."""
        per_instruction = 64 if self.dtype is DType.BFLOAT16 else 32
        count = ARITHMETIC_ROUNDS * 16 * per_instruction * self.pool.num_threads
        began = self.clock()
        self.library.run_arithmetic(self.runtime(), ctypes.c_int64(ARITHMETIC_ROUNDS))
        return count / (self.clock() - began)

    def byte_arithmetic(self, _: int) -> float:
        """Operations per second of the arithmetic loop for bytes (`vpdpbusd`)."""
        rounds = 4 * ARITHMETIC_ROUNDS  # so that waking a thread does not count
        count = rounds * 16 * 128 * self.pool.num_threads
        began = self.clock()
        self.library.run_byte_arithmetic(self.runtime(), ctypes.c_int64(rounds))
        return count / (self.clock() - began)

    def read(self, i: int) -> float:
        """Bytes per second of the reading loop, each round on another stretch."""
        start = i * READ_BYTES % ARENA_BYTES
        base = ctypes.c_void_p(self.arena.ctypes.data + start)
        began = self.clock()
        self.library.run_read(self.runtime(), base, ctypes.c_int64(READ_BYTES))
        return READ_BYTES / (self.clock() - began)

    def linear(self, rows: int, n: int, k: int) -> Callable[[int], float]:
        """A function that gives calls per second of one round, weights cold."""
        weight_bytes = prod(panel_shape(n, k, self.dtype)) * self.dtype.num_bytes
        copies = max(1, ARENA_BYTES // weight_bytes)
        a = allocate_host_memory(rows * k * 4).array(self.dtype.numpy, (rows, k))
        a[...] = np.random.default_rng(0).standard_normal((rows, k)).astype(self.dtype.numpy)
        out = allocate_host_memory(rows * n * 4).array(self.dtype.numpy, (rows, n))
        shape = (ctypes.c_int64 * 3)(rows, n, k)
        blocks = (ctypes.c_int64 * 2)(self.blocks.row_block, self.blocks.panel_group)
        runtime = self.runtime()

        def call(i: int) -> float:
            weight = ctypes.c_void_p(self.arena.ctypes.data + i % copies * weight_bytes)
            source, target = ctypes.c_void_p(a.ctypes.data), ctypes.c_void_p(out.ctypes.data)
            began = self.clock()
            self.library.run_linear(runtime, source, weight, target, shape, blocks)
            return 1 / (self.clock() - began)

        return call


def open_bench(dtype: DType, threads: int, rounds: int, pool: ThreadPool | None = None) -> Bench:
    """Build the loops; they run on `pool`, or on threads of their own."""
    cache = load_settings(os.environ).cache_directory
    level = detect_instruction_sets()[0]
    kernel = choose(Operation.LINEAR, level.name, dtype, dtype)
    name = "banyan::bfloat16" if dtype is DType.BFLOAT16 else "float"
    definitions = (
        f'-DKERNEL_HEADER="{kernel.header}"',
        f"-DKERNEL={kernel.function}",
        f"-DACTIVATION={name}",
        f"-DWEIGHT={name}",
        f"-DPEAK_IS_BF16={int('bf16' in kernel.instruction_set)}",
    )
    built = build_shared_object(
        (Path(__file__).parent / "kernels.cpp").read_text(),
        flags=(*OPTIMISED_FLAGS, *level.compiler_flags, *definitions),
        cache_directory=cache,
        name="bench_kernels",
        include_directories=(KERNEL_DIRECTORY, NATIVE_DIRECTORY),
    )
    arena = allocate_host_memory(ARENA_BYTES).array(dtype.numpy, (ARENA_BYTES // dtype.num_bytes,))
    pattern = np.random.default_rng(1).standard_normal(1 << 20).astype(dtype.numpy)
    arena.reshape(-1, 1 << 20)[...] = pattern
    print(f"kernel {kernel.name}, {threads} threads, best of {rounds}")
    return Bench(
        ctypes.CDLL(str(built.path)),
        pool or open_thread_pool(threads, cache_directory=cache),
        TileOptions(row_block=rows_per_item(level.name)),
        dtype,
        arena,
        rounds,
        time.thread_time if threads == 1 else time.perf_counter,
    )


def report_shape(bench: Bench, rows: int, n: int, k: int) -> None:
    streaming = rows in FEW_ROWS
    limit = bench.read if streaming else bench.arithmetic
    linear = bench.linear(rows, n, k)
    pairs = [(limit(i), linear(i)) for i in range(bench.rounds)]
    best_limit = max(value for value, _ in pairs)
    calls = max(value for _, value in pairs)
    operations = 2 * rows * n * k * calls
    moved = prod(panel_shape(n, k, bench.dtype)) * bench.dtype.num_bytes * calls
    share = (moved if streaming else operations) / best_limit
    print(
        f"{rows:4d} {n:6d} {k:5d} {1e3 / calls:9.3f} {operations / 1e9:8.0f} {moved / 1e9:8.1f} "
        f"{share:6.2f} of {'read' if streaming else 'peak'} {best_limit / 1e9:.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--type", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    bench = open_bench(DType(options.type), options.threads, options.rounds)
    print("rows      n     k   time ms    Gop/s     GB/s  share of limit")
    for rows, (n, k) in itertools.product((*FEW_ROWS, *MANY_ROWS), SHAPES):
        if rows in FEW_ROWS or n < 100_000:
            report_shape(bench, rows, n, k)
    bench.pool.close()


if __name__ == "__main__":
    main()
