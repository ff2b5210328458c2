"""Speed of attention programs as a share of this machine's own limits, measured in the same run.

    python -m benchmarks.compiler_attention [--case NAME ...] [--rounds N] [--keep]

16 query heads over 8 key/value heads of 128, bfloat16, as the compiler's own programs on the CPU
device. Decode is compared with a loop that only reads: its bytes are those of the keys and values,
which lie in a pool far larger than the caches, in blocks scattered by chance. Prefill of 2048
tokens counts only the products that a causal mask leaves, against register-resident
multiply-adds and against PyTorch. Rounds alternate; each gives one ratio, and medians count.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.executable import Executable
from banyan.compiler.ir.cached import CACHE_FORMATS, CacheFormat
from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.foundation.settings import load_settings
from benchmarks.compiler_bf16 import Row
from benchmarks.kernels import Bench, open_bench

HISTORY = Path(__file__).resolve().parent / "history" / "compiler.jsonl"
BLOCK, HEADS, KV_HEADS, SIZE = 16, 16, 8, 128
BLOCK_BYTES = 2 * KV_HEADS * BLOCK * SIZE * 2
POOL_BLOCKS = (1 << 30) // BLOCK_BYTES
LEAST_BYTES = 1 << 30
CONTEXTS = (512, 2048, 8192, 32768)
BATCHES = (16, 1)
PROMPT = 2048
BF16 = DType.BFLOAT16
PLAIN = CACHE_FORMATS["bfloat16"]
BARS = {"bfloat16": 0.75, "int8": 0.68, "fp8": 0.6, "int4": 0.5}


@dataclass(frozen=True, slots=True)
class Machine:
    """The device, the loops that show its limits, and one pool of cached blocks."""

    device: Device
    bench: Bench
    rounds: int

    def compiled(self, graph: Graph) -> Executable:
        options = CompileOptions(load_settings(os.environ).cache_directory)
        return compile_graph(graph, device=self.device, options=options)

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


def paged_graph(layers: int, form: CacheFormat = PLAIN) -> Graph:
    """Several layers over one pool, each with tables of its own: all read cold blocks."""
    builder = Builder()
    tokens, sequences = symbol("tokens", 1, PROMPT), symbol("sequences", 1, 64)
    blocks, columns = symbol("blocks", 1, 1 << 20), symbol("columns", 1, 4096)
    queries = builder.input("queries", TensorType((tokens, HEADS, SIZE), BF16))
    keys = builder.input(
        "keys", TensorType((blocks, *form.key_shape(KV_HEADS, SIZE)), form.dtype), "state"
    )
    values = builder.input(
        "values", TensorType((blocks, *form.value_shape(KV_HEADS, SIZE)), form.dtype), "state"
    )
    scale = TensorType((blocks, *form.scale_shape(KV_HEADS)), DType.FLOAT32)
    names = ("key_scales", "value_scales") if form.parts else ()
    scales = [builder.input(name, scale, "state") for name in names]
    starts = builder.input("starts", TensorType((sequences + 1,), DType.INT32))
    lengths = builder.input("lengths", TensorType((sequences,), DType.INT32))
    tables: list[Node] = []
    result = queries
    for layer in range(layers):
        kind = TensorType((sequences, columns), DType.INT32)
        tables.append(builder.input(f"tables{layer}", kind))
        args = (result, keys, values, tables[-1], starts, lengths, *scales)
        result = builder.add("paged_attention", args, scale=SIZE**-0.5, window=0)
    inputs = (queries, keys, values, starts, lengths, *tables, *scales)
    return Graph(f"paged{layers}", inputs, (Output("out", result),))


def filled(executable: Executable) -> None:
    """Give the pool of blocks values that are neither zero nor all alike."""
    executable.allocate_state({"blocks": POOL_BLOCKS})
    generator = np.random.default_rng(1)
    for argument in executable.inputs:
        if argument.role == "state":
            shape = (POOL_BLOCKS, *(int(str(d)) for d in argument.type.shape[1:]))
            dtype = argument.type.dtype
            loud = 30 if dtype in {DType.INT8, DType.UINT8} else 1
            drawn = np.abs(generator.standard_normal((64, *shape[1:])) * loud)
            pattern = drawn.astype(dtype.numpy)
            repeated = np.broadcast_to(pattern, (POOL_BLOCKS // 64, *pattern.shape))
            executable.write_state(argument.name, repeated.reshape(shape))


def paged_arguments(layers: int, new: int, batch: int, context: int) -> dict[str, Any]:
    generator = np.random.default_rng(2)
    columns = -(-context // BLOCK)
    found: dict[str, Any] = {
        "queries": generator.standard_normal((batch * new, HEADS, SIZE)).astype(BF16.numpy),
        "starts": np.arange(batch + 1, dtype=np.int32) * new,
        "lengths": np.full(batch, context, np.int32),
    }
    # Large batches of long contexts share blocks, but come back to one only after all others.
    chosen = np.concatenate(
        [
            generator.permutation(POOL_BLOCKS)
            for _ in range(1 + layers * batch * columns // POOL_BLOCKS)
        ]
    )
    for layer in range(layers):
        taken = chosen[layer * batch * columns : (layer + 1) * batch * columns]
        found[f"tables{layer}"] = taken.reshape(batch, columns).astype(np.int32)
    return found


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def decode(machine: Machine, batch: int, context: int, form: CacheFormat = PLAIN) -> Row:
    """One new token for each sequence: the share of bandwidth."""
    moved = batch * context * 2 * KV_HEADS * form.row_bytes(SIZE)
    layers = min(64, max(1, -(-LEAST_BYTES // moved)))
    program = machine.compiled(paged_graph(layers, form))
    filled(program)
    arguments = paged_arguments(layers, 1, batch, context)

    def pair(i: int) -> tuple[float, float]:
        before = machine.bench.read(2 * i)
        ours = moved * layers / seconds(lambda: program.run(arguments))
        return ours, (before + machine.bench.read(2 * i + 1)) / 2

    name = f"{form.name} decode batch {batch} context {context}"
    return machine.row(name, "GB/s", BARS[form.name], pair)


def causal_operations() -> int:
    return 4 * HEADS * SIZE * PROMPT * (PROMPT + 1) // 2


def torch_attention() -> Callable[[], object]:
    shape = (1, HEADS, PROMPT, SIZE)
    q = torch.randn(shape, dtype=torch.bfloat16)
    k, v = (torch.randn(1, KV_HEADS, PROMPT, SIZE, dtype=torch.bfloat16) for _ in range(2))
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, 1) for x in (k, v))
    attend = torch.nn.functional.scaled_dot_product_attention
    return lambda: attend(q, k, v, is_causal=True)


def prefill(machine: Machine, name: str, call: Callable[[], object]) -> list[Row]:
    """A whole prompt: the share of arithmetic, and the speed beside PyTorch's."""
    theirs = torch_attention()

    def beside_peak(i: int) -> tuple[float, float]:
        peak = machine.bench.arithmetic(i)
        return causal_operations() / seconds(call), peak

    def beside_torch(i: int) -> tuple[float, float]:
        other = causal_operations() / seconds(theirs)
        return causal_operations() / seconds(call), other

    return [
        machine.row(f"{name} prefill {PROMPT}", "Gop/s peak", 0.33, beside_peak),
        machine.row(f"{name} prefill {PROMPT}", "Gop/s torch", 1.5, beside_torch),
    ]


def paged_prefill(machine: Machine) -> list[Row]:
    program = machine.compiled(paged_graph(1))
    filled(program)
    arguments = paged_arguments(1, PROMPT, 1, PROMPT)
    return prefill(machine, "paged", lambda: program.run(arguments))


def whole_prefill(machine: Machine) -> list[Row]:
    builder = Builder()
    kinds = [(1, heads, PROMPT, SIZE) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    inputs = tuple(builder.input(n, TensorType(k, BF16)) for n, k in zip("qkv", kinds, strict=True))
    node = builder.add("attention_forward", inputs, causal=True, scale=SIZE**-0.5)
    out = builder.add("get", (node,), index=0)
    program = machine.compiled(Graph("whole_attention", inputs, (Output("out", out),)))
    generator = np.random.default_rng(3)
    arrays = {
        name: generator.standard_normal(kind).astype(BF16.numpy)
        for name, kind in zip("qkv", kinds, strict=True)
    }
    return prefill(machine, "whole", lambda: program.run(arrays))


def cases() -> dict[str, Callable[[Machine], list[Row]]]:
    found: dict[str, Callable[[Machine], list[Row]]] = {
        f"decode{batch}x{context}": lambda m, b=batch, c=context: [decode(m, b, c)]  # type: ignore[misc]
        for batch in BATCHES
        for context in CONTEXTS
    }
    found |= {
        f"{form}decode{batch}x{context}": lambda m, b=batch, c=context, f=form: [  # type: ignore[misc]
            decode(m, b, c, CACHE_FORMATS[f])
        ]
        for form in ("int8", "fp8", "int4")
        for batch in BATCHES
        for context in CONTEXTS
    }
    return {**found, "paged": paged_prefill, "whole": whole_prefill}


def keep(rows: list[Row], threads: int) -> None:
    record = {
        "benchmark": "attention",
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
    parser.add_argument("--case", nargs="*", choices=tuple(cases()), default=list(cases()))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", action="store_true", help="add a line to benchmarks/history")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = find_device("cpu", settings=load_settings(os.environ), num_threads=options.threads)
    machine = Machine(device, open_bench(BF16, options.threads, options.rounds), options.rounds)
    rows = [row for name in options.case for row in cases()[name](machine)]
    if options.keep:
        keep(rows, options.threads)


if __name__ == "__main__":
    main()
