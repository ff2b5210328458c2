"""Speed of compiled bfloat16 linears beside this machine's limits and beside PyTorch.

    python -m benchmarks.compiler_bf16 [--case matmul skinny experts] [--rounds N] [--keep]

Everything runs as whole compiled programs on the CPU device. `matmul`: layers of Qwen3-0.6B,
Llama-3.2-1B and Llama-3.1-8B at 256 to 2048 rows, as a share of register-resident multiply-adds
and as a multiple of `torch.nn.functional.linear`. `skinny`: 1 to 16 rows through 2 GB of cold
weights, as a share of a loop that only reads; where arithmetic is the nearer limit, the row says
so. `experts`: 128 experts, as a multiple of PyTorch's loop over experts and of its grouped
product, and as a share of what reading the weights once and the arithmetic allow.
Rounds alternate; each gives one ratio, and medians count.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.executable import Executable
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.devices.cpu import CpuDevice
from banyan.devices.discovery import find_device
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.foundation.settings import load_settings
from benchmarks.kernels import Bench, open_bench

HISTORY = Path(__file__).resolve().parent / "history" / "compiler.jsonl"
BF16 = DType.BFLOAT16
MATMUL_SHAPES = (  # (k, n)
    (1024, 4096), (1024, 6144), (3072, 1024), (2048, 16384),
    (8192, 2048), (4096, 4096), (4096, 28672), (14336, 4096),
)  # fmt: skip
MATMUL_ROWS = (256, 512, 2048)
ROTATED_BYTES = 1 << 28
SKINNY_WIDTH, SKINNY_LAYERS = 4096, 64
SKINNY_ROWS = {1: 0.92, 2: 0.90, 4: 0.90, 8: 0.90, 16: 0.90}
EXPERTS, EXPERT_INPUTS, EXPERT_OUTPUTS = 128, 2048, 768
TOKENS_PER_EXPERT = (1, 4, 16, 64)
Call = Callable[[], object]
PAUSE_SECONDS = 0.02  # until the threads of whoever ran last are asleep


@dataclass(frozen=True, slots=True)
class Row:
    """Quartiles of one ratio over the rounds, the median of its limit, and the bar."""

    name: str
    against: str
    quartiles: tuple[float, float, float]
    limit: float
    bar: float

    def __str__(self) -> str:
        low, median, high = self.quartiles
        return (
            f"{self.name:34s} {median:6.3f} [{low:.3f}..{high:.3f}] of {self.limit / 1e9:7.1f} "
            f"G/s {self.against:12s} bar {self.bar:.2f} {'yes' if median >= self.bar else 'NO'}"
        )


class Weights:
    """Arrays by name, as a source of weights."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = arrays

    def names(self) -> list[str]:
        return list(self.arrays)

    def read(self, name: str) -> Any:
        return self.arrays[name]

    def release(self, name: str) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The device and the loops that show its limits, on the same threads."""

    device: CpuDevice
    bench: Bench
    rounds: int

    def program(self, graph: Graph, weights: Mapping[str, Any]) -> Executable:
        options = CompileOptions(load_settings(os.environ).cache_directory)
        executable = compile_graph(graph, device=self.device, options=options)
        executable.load_weights(Weights(weights))
        return executable

    def row(
        self, name: str, against: str, bar: float, pair: Callable[[int], tuple[float, float]]
    ) -> Row:
        """Measure (ours, limit) round by round; higher is better in both."""
        pair(0)
        pairs = [pair(i + 1) for i in range(self.rounds)]
        low, median, high = np.quantile([a / b for a, b in pairs], (0.25, 0.5, 0.75)).tolist()
        limit = float(np.median([b for _, b in pairs]))
        row = Row(name, against, (low, median, high), limit, bar)
        print(row, flush=True)
        return row


def turns(calls: Sequence[Call]) -> Call:
    """One call that makes each of `calls` in turn."""
    following = itertools.cycle(calls)

    def call() -> object:
        return next(following)()

    return call


def rate(work: float, call: Call) -> float:
    """Work per second of the second of two calls, whose threads are awake."""
    time.sleep(PAUSE_SECONDS)
    call()
    began = time.perf_counter()
    call()
    return work / (time.perf_counter() - began)


def random_bf16(seed: int, *shape: int) -> Any:
    values = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return (values / np.sqrt(shape[-1])).astype(BF16.numpy)


def as_torch(array: Any) -> torch.Tensor:
    return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)


def linear_graph(k: int, n: int) -> Graph:
    builder = Builder()
    x = builder.input("x", TensorType((symbol("rows", 1, 2048), k), BF16))
    weight = builder.input("weight", TensorType((n, k), BF16), "weight")
    y = builder.add("dot", (x, weight), transpose_b=True, dtype=BF16)
    return Graph("linear", (x, weight), (Output("y", y),))


def matmul_shape(machine: Machine, k: int, n: int) -> list[Row]:
    """One layer at every number of rows; several copies of its weight take turns."""
    copies = max(2, ROTATED_BYTES // (2 * k * n))
    weights = [random_bf16(i, n, k) for i in range(copies)]
    programs = [machine.program(linear_graph(k, n), {"weight": w}) for w in weights]
    tensors = [as_torch(w) for w in weights]
    found = []
    for rows in MATMUL_ROWS:
        x, work = random_bf16(99, rows, k), 2.0 * rows * n * k
        theirs = as_torch(x)
        for program in programs:  # a first run also waits for memory
            program.run({"x": x})
        y = programs[0].run({"x": x})["y"].astype(np.float32)
        expected = torch.nn.functional.linear(theirs, tensors[0]).float().numpy()
        assert np.abs(y - expected).max() < 0.02 * np.abs(expected).max()

        ours = turns([lambda p=p, x=x: p.run({"x": x}) for p in programs])  # type: ignore[misc]
        other = turns(
            [lambda t=t, x=theirs: torch.nn.functional.linear(x, t) for t in tensors]  # type: ignore[misc]
        )

        def beside_peak(i: int, ours: Call = ours, work: float = work) -> tuple[float, float]:
            before, mine = machine.bench.arithmetic(i), rate(work, ours)
            return mine, (before + machine.bench.arithmetic(i)) / 2

        def beside_torch(
            _: int, ours: Call = ours, other: Call = other, work: float = work
        ) -> tuple[float, float]:
            return rate(work, ours), rate(work, other)

        name = f"matmul {rows}x{k}x{n}"
        found.append(machine.row(name, "peak", 0.45, beside_peak))
        found.append(machine.row(name, "torch", 1.0, beside_torch))
    return found


def matmul(machine: Machine) -> list[Row]:
    found = [row for k, n in MATMUL_SHAPES for row in matmul_shape(machine, k, n)]
    for against, bar in (("peak", 0.55), ("torch", 1.6)):
        medians = [row.quartiles[1] for row in found if row.against == against]
        mean, low = float(np.mean(medians)), min(medians)
        print(f"matmul, mean of {against}: {mean:.3f} (bar {bar}), least {low:.3f}")
    return found


def skinny_graph(rows: int) -> Graph:
    builder = Builder()
    x = builder.input("x", TensorType((rows, SKINNY_WIDTH), BF16))
    kind = TensorType((SKINNY_WIDTH, SKINNY_WIDTH), BF16)
    weights = [builder.input(f"weight{i}", kind, "weight") for i in range(SKINNY_LAYERS)]
    result = x
    for weight in weights:
        result = builder.add("dot", (result, weight), transpose_b=True, dtype=BF16)
    return Graph(f"skinny{rows}", (x, *weights), (Output("y", result),))


def skinny(machine: Machine) -> list[Row]:
    """A chain of layers; every weight is read once in a run."""
    base = random_bf16(0, SKINNY_WIDTH, SKINNY_WIDTH)
    weights = {f"weight{i}": np.roll(base, i, axis=0) for i in range(SKINNY_LAYERS)}
    moved = 2.0 * SKINNY_WIDTH**2 * SKINNY_LAYERS
    found = []
    for rows, bar in SKINNY_ROWS.items():
        program = machine.program(skinny_graph(rows), weights)
        x = random_bf16(1, rows, SKINNY_WIDTH)

        def pair(i: int, program: Executable = program, x: Any = x) -> tuple[float, float]:
            before = np.mean([machine.bench.read(4 * i + j) for j in range(4)])
            mine = rate(moved, lambda: program.run({"x": x}))
            after = np.mean([machine.bench.read(4 * i + j) for j in range(4)])
            return mine, float(before + after) / 2

        row = machine.row(f"skinny {rows} rows", "read", bar, pair)
        reachable = np.median([machine.bench.arithmetic(i) for i in range(5)]) / rows
        if reachable < row.limit:
            print(f"  arithmetic allows {reachable / row.limit:.2f} of this bandwidth")
        found.append(row)
    return found


def experts_graph() -> Graph:
    builder = Builder()
    rows = symbol("rows", 1, EXPERTS * max(TOKENS_PER_EXPERT))
    x = builder.input("x", TensorType((rows, EXPERT_INPUTS), BF16))
    chosen = builder.input("experts", TensorType((rows,), DType.INT64))
    kind = TensorType((EXPERTS, EXPERT_OUTPUTS, EXPERT_INPUTS), BF16)
    weight = builder.input("weight", kind, "weight")
    y = builder.add("grouped_dot", (x, weight, chosen), dtype=BF16)
    return Graph("experts", (x, chosen, weight), (Output("y", y),))


def loop_over_experts(x: torch.Tensor, w: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    out = torch.empty(x.shape[0], w.shape[1], dtype=x.dtype)
    for expert in range(w.shape[0]):
        (rows,) = torch.where(chosen == expert)
        if len(rows):
            out[rows] = torch.nn.functional.linear(x[rows], w[expert])
    return out


def grouped_product(x: torch.Tensor, w: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    order = torch.argsort(chosen, stable=True)
    ends = torch.bincount(chosen, minlength=w.shape[0]).cumsum(0).to(torch.int32)
    out = torch.empty(x.shape[0], w.shape[1], dtype=x.dtype)
    out[order] = torch._grouped_mm(x[order], w.transpose(1, 2), offs=ends)
    return out


def experts(machine: Machine) -> list[Row]:
    """Every expert with the same number of tokens, then with 1 to 64 drawn by chance."""
    weight = random_bf16(0, EXPERTS, EXPERT_OUTPUTS, EXPERT_INPUTS)
    program, theirs = machine.program(experts_graph(), {"weight": weight}), as_torch(weight)
    generator = np.random.default_rng(5)
    counts = {f"{t} each": np.full(EXPERTS, t) for t in TOKENS_PER_EXPERT}
    counts["1 to 64"] = generator.integers(1, 65, EXPERTS)
    found = []
    for name, count in counts.items():
        chosen = generator.permutation(np.repeat(np.arange(EXPERTS), count))
        x = random_bf16(2, len(chosen), EXPERT_INPUTS)
        arguments = {"x": x, "experts": chosen}
        tensors = as_torch(x), theirs, torch.from_numpy(chosen)
        y = program.run(arguments)["y"].astype(np.float32)
        expected = loop_over_experts(*tensors).float().numpy()
        assert np.abs(y - expected).max() < 0.02 * np.abs(expected).max()
        work = 2.0 * len(chosen) * EXPERT_INPUTS * EXPERT_OUTPUTS
        for against, bar, call in (
            ("loop", 3.9, loop_over_experts),
            ("grouped_mm", 1.3, grouped_product),
        ):

            def pair(
                i: int,
                call: Callable[..., torch.Tensor] = call,
                arguments: dict[str, Any] = arguments,
                tensors: tuple[torch.Tensor, ...] = tensors,
                work: float = work,
            ) -> tuple[float, float]:
                mine = rate(work, lambda: program.run(arguments))
                return mine, rate(work, lambda: call(*tensors))

            found.append(machine.row(f"experts {name}", against, bar, pair))

        def of_floor(
            i: int, arguments: dict[str, Any] = arguments, work: float = work
        ) -> tuple[float, float]:
            streamed = machine.bench.read(2 * i) * work / weight.nbytes
            floor = min(streamed, machine.bench.arithmetic(i))
            return rate(work, lambda: program.run(arguments)), floor

        found.append(machine.row(f"experts {name}", "floor", 0.0, of_floor))
    return found


CASES: dict[str, Callable[[Machine], list[Row]]] = {
    "matmul": matmul,
    "skinny": skinny,
    "experts": experts,
}


def keep(rows: list[Row], threads: int, benchmark: str = "bf16") -> None:
    record = {
        "benchmark": benchmark,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": threads,
        "instruction_set": detect_instruction_sets()[0].name,
        "rows": [
            {"name": r.name, "against": r.against, "quartiles": r.quartiles, "limit": r.limit}
            for r in rows
        ],
    }
    with HISTORY.open("a") as file:
        file.write(json.dumps(record) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", nargs="*", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", action="store_true", help="add a line to benchmarks/history")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = find_device("cpu", settings=load_settings(os.environ), num_threads=options.threads)
    assert isinstance(device, CpuDevice)
    bench = open_bench(BF16, options.threads, options.rounds, device.thread_pool())
    machine = Machine(device, bench, options.rounds)
    rows = [row for name in options.case for row in CASES[name](machine)]
    if options.keep:
        keep(rows, options.threads)


if __name__ == "__main__":
    main()
