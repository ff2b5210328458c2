"""Speed of compiled quantised linears beside this machine's limits, our bfloat16, and PyTorch.

    python -m benchmarks.compiler_quantized [--case matmul skinny] [--rounds N] [--keep]

Everything runs as whole compiled programs on the CPU device; activations are quantised on the way,
and that counts. `matmul`: int8 layers of Qwen3-0.6B, Llama-3.2-1B and Llama-3.1-8B at 256 to 2048
rows, as a share of register-resident `vpdpbusd`, and as a multiple of our bfloat16 and of PyTorch's
dynamically quantised linear. `skinny`: 1 to 16 rows through 2 GB of cold weights as a share of a
loop that only reads (all that is read counts, scales too), and beside PyTorch's kernel for 4 bits.
Rounds alternate; each gives one ratio, and medians count.
"""

import argparse
import os
import warnings
from functools import partial
from typing import Any

import numpy as np
import torch

from banyan.compiler.executable import Executable
from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.devices.cpu import CpuDevice
from banyan.devices.discovery import find_device
from banyan.foundation.settings import load_settings
from benchmarks.compiler_bf16 import (
    BF16,
    MATMUL_ROWS,
    MATMUL_SHAPES,
    ROTATED_BYTES,
    Call,
    Machine,
    Row,
    as_torch,
    keep,
    linear_graph,
    random_bf16,
    rate,
    turns,
)
from benchmarks.kernels import open_bench

SKINNY_WIDTH = 4096
SKINNY_LAYERS = {"int8": 120, "int4": 220}
SKINNY_BARS = {
    ("int8", 1): 0.93, ("int8", 4): 0.90, ("int8", 16): 0.86,
    ("int4", 1): 0.85, ("int4", 4): 0.80, ("int4", 16): 0.62,
}  # fmt: skip
GROUP = 64
CASES = ("matmul", "skinny")


def layer(builder: Builder, x: Node, name: str, columns: int, layout: str) -> tuple[Node, ...]:
    """The inputs of a quantised linear layer, and last its result."""
    depth = x.shape[-1]
    assert isinstance(depth, int)
    group = GROUP if layout == "int4" else depth
    stored = TensorType((columns, depth), DType.INT8)
    if layout == "int4":
        stored = TensorType((columns, depth // 2), DType.UINT8)
    scales = TensorType((columns, depth // group), DType.FLOAT32)
    weight = builder.input(f"{name}.weight", stored, "weight")
    scale = builder.input(f"{name}.scales", scales, "weight")
    attrs: dict[str, Any] = {"format": layout, "group": group, "rows": 1, "activation": "int8"}
    y = builder.add("quantized_linear", (x, weight, scale), **attrs, dtype=BF16)
    return weight, scale, y


def random_layer(seed: int, name: str, columns: int, depth: int, layout: str) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    width, group = (depth // 2, GROUP) if layout == "int4" else (depth, depth)
    bits = generator.integers(0, 256, (columns, width), np.uint8)
    scales = generator.uniform(0.5, 1.5, (columns, depth // group)) / (64 * np.sqrt(depth))
    weight = bits if layout == "int4" else bits.view(np.int8)
    return {f"{name}.weight": weight, f"{name}.scales": scales.astype(np.float32)}


def int8_graph(k: int, n: int) -> Graph:
    builder = Builder()
    x = builder.input("x", TensorType((symbol("rows", 1, 2048), k), BF16))
    *parts, y = layer(builder, x, "layer", n, "int8")
    return Graph("int8", (x, *parts), (Output("y", y),))


def torch_int8(weight: Any) -> torch.nn.Module:
    """PyTorch's linear with int8 weights and activations quantised on the fly, for float32."""
    plain = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    plain.weight.data = torch.from_numpy(weight.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what PyTorch brings for CPUs
        made: torch.nn.Module = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            torch.nn.Sequential(plain), {torch.nn.Linear}, torch.qint8
        )
    return made


def matmul_shape(machine: Machine, k: int, n: int) -> list[Row]:
    """One layer at every number of rows; several copies of its weight take turns."""
    copies = max(2, ROTATED_BYTES // (2 * k * n))
    stored = [random_layer(i, "layer", n, k, "int8") for i in range(copies)]
    programs = [machine.program(int8_graph(k, n), weights) for weights in stored]
    wide = [random_bf16(i, n, k) for i in range(copies)]
    plain = [machine.program(linear_graph(k, n), {"weight": weight}) for weight in wide]
    peer = torch_int8(stored[0]["layer.weight"])
    found = []
    for rows in MATMUL_ROWS:
        x, work = random_bf16(99, rows, k), 2.0 * rows * n * k
        for program in (*programs, *plain):
            program.run({"x": x})
        ours = turns([lambda p=p, x=x: p.run({"x": x}) for p in programs])  # type: ignore[misc]
        bf16 = turns([lambda p=p, x=x: p.run({"x": x}) for p in plain])  # type: ignore[misc]
        theirs = as_torch(x).float()

        def beside_peak(i: int, ours: Call = ours, work: float = work) -> tuple[float, float]:
            # A thread that wakes late only lowers the peak, so the best of four is taken.
            around = [machine.bench.byte_arithmetic(i) for _ in range(2)]
            mine = rate(work, ours)
            return mine, max(*around, *(machine.bench.byte_arithmetic(i) for _ in range(2)))

        def beside(other: Call, ours: Call = ours, work: float = work) -> Any:
            return lambda _: (rate(work, ours), rate(work, other))

        name = f"int8 {rows}x{k}x{n}"
        found.append(machine.row(name, "peak", 0.48, beside_peak))
        found.append(machine.row(name, "our bf16", 1.7, beside(bf16)))
        found.append(machine.row(name, "torch int8", 1.0, beside(turns([partial(peer, theirs)]))))
    return found


def matmul(machine: Machine, layers: slice = slice(None)) -> list[Row]:
    found: list[Row] = []
    with torch.no_grad():
        shapes: tuple[tuple[int, int], ...] = MATMUL_SHAPES
        for k, n in shapes[layers]:
            found += matmul_shape(machine, k, n)
    for against, bar in (("peak", 0.48), ("our bf16", 1.7), ("torch int8", 1.0)):
        medians = [row.quartiles[1] for row in found if row.against == against]
        mean, low = float(np.mean(medians)), min(medians)
        print(f"int8, mean of {against}: {mean:.3f} (bar {bar}), least {low:.3f}")
    return found


def skinny_graph(layout: str) -> Graph:
    """A chain of layers; every weight is read once in a run."""
    builder = Builder()
    result = x = builder.input("x", TensorType((symbol("rows", 1, 16), SKINNY_WIDTH), BF16))
    inputs = [x]
    for i in range(SKINNY_LAYERS[layout]):
        *parts, result = layer(builder, result, f"layer{i}", SKINNY_WIDTH, layout)
        inputs += parts
    return Graph(f"skinny_{layout}", tuple(inputs), (Output("y", result),))


def torch_int4(machine: Machine, rows: int, weights: dict[str, Any]) -> Call:
    """PyTorch's kernel for groups of 4 bits and bfloat16 activations, over cold copies."""
    low = weights["layer0.weight"].astype(np.int32)
    values = np.stack([low & 15, low >> 4], axis=-1).reshape(SKINNY_WIDTH, SKINNY_WIDTH)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(torch.from_numpy(values), 1)
    scales = torch.ones(SKINNY_WIDTH // GROUP, SKINNY_WIDTH, 2, dtype=torch.bfloat16)
    copies = [packed.clone() for _ in range(SKINNY_LAYERS["int4"])]
    x = as_torch(random_bf16(1, rows, SKINNY_WIDTH))

    def call() -> object:
        for weight in copies:
            torch.ops.aten._weight_int4pack_mm_for_cpu(x, weight, GROUP, scales)
        return None

    return call


def skinny(machine: Machine) -> list[Row]:
    found = []
    for layout, layers in SKINNY_LAYERS.items():
        base = random_layer(0, "layer", SKINNY_WIDTH, SKINNY_WIDTH, layout)
        weights = {f"layer{i}.{key[6:]}": base[key] for i in range(layers) for key in base}
        moved = float(sum(array.nbytes for array in weights.values()))
        program = machine.program(skinny_graph(layout), weights)
        for rows in (1, 4, 16):
            x = random_bf16(1, rows, SKINNY_WIDTH)

            def ours(program: Executable = program, x: Any = x) -> object:
                return program.run({"x": x})

            def pair(i: int, ours: Call = ours, moved: float = moved) -> tuple[float, float]:
                before = np.mean([machine.bench.read(4 * i + j) for j in range(4)])
                mine = rate(moved, ours)
                after = np.mean([machine.bench.read(4 * i + j) for j in range(4)])
                return mine, float(before + after) / 2

            name = f"{layout} {rows} rows"
            found.append(machine.row(name, "read", SKINNY_BARS[layout, rows], pair))
            products = 2.0 * rows * SKINNY_WIDTH**2 * layers / moved
            peak = np.median([machine.bench.byte_arithmetic(i) for i in range(5)])
            reachable = float(peak / products / found[-1].limit)
            if reachable < 1:
                print(f"  arithmetic allows {reachable:.2f} of this bandwidth")
            if layout == "int4":
                other = torch_int4(machine, rows, weights)

                def beside(
                    _: int, ours: Call = ours, other: Call = other, moved: float = moved
                ) -> tuple[float, float]:
                    return rate(moved, ours), rate(moved, other)

                found.append(machine.row(name, "torch int4", 1.0, beside))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", nargs="*", choices=CASES, default=CASES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--layer", type=int, help="only this one of the layers of matmul")
    parser.add_argument("--keep", action="store_true", help="add a line to benchmarks/history")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = find_device("cpu", settings=load_settings(os.environ), num_threads=options.threads)
    assert isinstance(device, CpuDevice)
    bench = open_bench(BF16, options.threads, options.rounds, device.thread_pool())
    machine = Machine(device, bench, options.rounds)
    rows = skinny(machine) if "skinny" in options.case else []
    if "matmul" in options.case:
        only = options.layer
        rows += matmul(machine, slice(None) if only is None else slice(only, only + 1))
    if options.keep:
        keep(rows, options.threads, "quantized")


if __name__ == "__main__":
    main()
