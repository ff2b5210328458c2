"""What the Triton target promises, on a real GPU: right numbers first, then speed beside PyTorch.

    python -m benchmarks.gpu_check [--device cuda:0] [--graphs N] [--rounds N] [--keep]
    TRITON_INTERPRET=1 python -m benchmarks.gpu_check --device triton --tiny     without a GPU

Numbers: every family of operations, random graphs, the programs of the IR, and whole small models,
against the oracle. Speed: matrix products, paged attention, and one layer of Qwen3-0.6B, each as
launches and as a replayed CUDA graph, in turns with PyTorch; medians count. Every raw time is
kept. One section that fails is recorded and the others run.
"""

import argparse
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from banyan.compiler.capture.arrays import to_array
from banyan.compiler.capture.export import capture_module
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import evaluate, substitute, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.options import CompileOptions
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.targets.memory import arena_offsets, place_memory
from banyan.compiler.targets.triton.chips import Chip
from banyan.compiler.targets.triton.target import open_target
from banyan.devices.device import Program
from banyan.devices.torch_device import TorchDevice
from tests.compiler import quantized_graphs
from tests.compiler.programs.test_grouped_linear import arrays as expert_arrays
from tests.compiler.programs.test_grouped_linear import grouped_graph
from tests.compiler.programs.test_paged_attention import attention_graph, step
from tests.compiler.targets.cpp.test_program import family_cases
from tests.compiler.targets.triton.running import assert_agrees
from tests.compiler.test_fuzz import random_cases
from tests.compiler.zoo.comparing import TOLERANCES, compare
from tests.compiler.zoo.models import MODELS

HISTORY = Path(__file__).resolve().parent / "history" / "gpu.jsonl"
BF16 = DType.BFLOAT16
ROWS = (1, 16, 256, 2048, 8192)
WIDTHS = ((1024, 4096), (1024, 6144), (3072, 1024), (4096, 4096), (4096, 28672), (14336, 4096))
REPEATS = 20
Call = Callable[[], object]
Record = dict[str, Any]


class Prepared:
    """A graph compiled for a device, with everything it reads and writes in the device's memory."""

    def __init__(self, graph: Graph, device: TorchDevice, arrays: Mapping[str, Any]) -> None:
        directory = Path(tempfile.mkdtemp(prefix="banyan-gpu-"))
        target = open_target(device, CompileOptions(directory))
        lowered = lower(graph, target.tiling)
        placement = place_memory(lowered)
        text = target.emit(lowered, placement)
        if len(text.entries) != 1:
            raise ValueError("a graph with calls of the framework cannot be timed alone")
        sizes = _sizes(graph, arrays)
        slots = [evaluate(slot.num_bytes, sizes) for slot in placement.slots]
        offsets, total = arena_offsets(placement.slots, slots)
        outputs = [
            evaluate(kind.num_elements, sizes) * kind.dtype.num_bytes
            for kind in placement.output_types
        ]
        self.buffers = [device.adopt(arrays[str(n.attr("name"))]) for n in lowered.inputs]
        self.buffers += [device.allocate(max(size, 64)) for size in (*outputs, total)]
        self.symbols = [*(sizes[s.name] for s in lowered.symbols()), *offsets]
        self.device = device
        image = target.build(text)
        counts = len(self.buffers), len(self.symbols)
        self.loaded = device.load(Program("check", "triton", image, text.entries[0], *counts, 0))

    def __call__(self) -> None:
        self.device.launch(self.loaded, self.buffers, self.symbols)


def _sizes(graph: Graph, arrays: Mapping[str, Any]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for node in graph.inputs:
        for dim, size in zip(node.shape, arrays[str(node.attr("name"))].shape, strict=True):
            sizes.update({s.name: size for s in graph.symbols() if str(s) == str(dim)})
    return sizes


def seconds_of(call: Call, device: TorchDevice) -> float:
    """Of one call, in a row of many."""
    device.synchronize()
    began = time.perf_counter()
    for _ in range(REPEATS):
        call()
    device.synchronize()
    return (time.perf_counter() - began) / REPEATS


def replayed(call: Call, device: TorchDevice) -> Call | None:
    """The launches of a call as a CUDA graph."""
    if device.name.partition(":")[0] != "cuda":
        return None
    for _ in range(3):
        call()
    device.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def in_turns(calls: Mapping[str, Call | None], device: TorchDevice, rounds: int) -> Record:
    """The seconds of every call in every round, and medians."""
    there = {name: call for name, call in calls.items() if call is not None}
    raw: dict[str, list[float]] = {name: [] for name in there}
    for call in there.values():
        call()
    for _ in range(rounds):
        for name, call in there.items():
            raw[name].append(seconds_of(call, device))
    return {"seconds": raw, "median": {name: median(values) for name, values in raw.items()}}


def numbers(device: str, chip: Chip, graphs: int) -> Iterator[tuple[str, Call]]:
    """Name and check of everything that has an oracle."""
    directory = Path(tempfile.mkdtemp(prefix="banyan-gpu-"))

    def agrees(graph: Graph, arrays: Mapping[str, Any]) -> Call:
        return lambda: assert_agrees(graph, arrays, directory, chip, device)

    for i, case in enumerate(family_cases()):
        yield f"family {i}", agrees(case.graph, case.arrays)
    for i, case in enumerate(random_cases(77, graphs)):
        yield f"random graph {i}", agrees(case.graph, case.arrays)
    for heads, kv_heads, size, dtype in ((4, 2, 8, DType.FLOAT32), (16, 8, 128, BF16)):
        graph = attention_graph(heads, kv_heads, size, dtype, 0)
        arrays = step([1, 19, 0, 5], [40, 19, 9, 21], heads, kv_heads, dtype, size)
        yield f"paged attention {heads} {size}", agrees(graph, arrays)
    for dtype in (DType.FLOAT32, BF16):
        graph = grouped_graph(20, 6, dtype, "weight")
        yield f"experts {dtype.value}", agrees(graph, expert_arrays(20, 6, dtype))
    for quantized in quantized_graphs.CASES:
        graph = quantized_graphs.linear_graph(quantized)
        yield f"quantised {quantized}", agrees(graph, quantized_graphs.arrays(quantized))


def models(device: str) -> Iterator[tuple[str, Call]]:
    """Other people's models against themselves in PyTorch."""
    for model in MODELS:
        for dtype, bound in TOLERANCES.items():

            def check(model: Any = model, dtype: Any = dtype, bound: float = bound) -> None:
                errors = compare(model, "triton", dtype, device=device).errors
                if max(errors.values()) > bound:
                    raise AssertionError(f"{errors} beyond {bound}")

            yield f"{model.name} {dtype}", check


def matrix_products(device: TorchDevice, rounds: int, *, tiny: bool) -> Iterator[Record]:
    """Linear layers."""
    generator = np.random.default_rng(0)
    for depth, columns in ((64, 32),) if tiny else WIDTHS:
        builder = Builder()
        x = builder.input("x", TensorType((symbol("rows", 1, 8192), depth), BF16))
        weight = builder.input("w", TensorType((columns, depth), BF16), "weight")
        node = builder.add("dot", (x, weight), transpose_b=True, dtype=BF16)
        graph = Graph("linear", (x, weight), (Output("y", node),))
        for rows in (5,) if tiny else ROWS:
            shapes = {"x": (rows, depth), "w": (columns, depth)}
            arrays = {
                name: (generator.standard_normal(shape, np.float32) * 0.1).astype(BF16.numpy)
                for name, shape in shapes.items()
            }
            ours = Prepared(graph, device, arrays)
            place = ours.buffers[0].tensor.device
            a, b = (_on(arrays[name], place) for name in ("x", "w"))
            calls: dict[str, Call | None] = {
                "ours": ours,
                "ours, replayed": replayed(ours, device),
                "torch": partial(torch.nn.functional.linear, a, b),
            }
            found = in_turns(calls, device, rounds)
            flops = 2 * rows * depth * columns
            yield {"name": f"linear {rows}x{depth}x{columns}", "flops": flops, **found}


def _on(array: Any, place: Any) -> torch.Tensor:
    """An array of bfloat16 as a tensor elsewhere."""
    return torch.from_numpy(array.view(np.int16)).to(place).view(torch.bfloat16)


def attention(device: TorchDevice, rounds: int, *, tiny: bool) -> Iterator[Record]:
    """Paged attention of decode and of a prompt, beside PyTorch's on contiguous keys."""
    for new, context, count in (
        ((1, 40, 2),) if tiny else ((1, 512, 64), (1, 8192, 32), (2048, 2048, 1))
    ):
        graph = attention_graph(16, 8, 128, BF16, 0)
        blocks = count * -(-context // 16) + 1
        generator = np.random.default_rng(1)
        cache = (blocks, 8, 64, 16, 2), (blocks, 8, 8, 128, 2)
        keys, values = (generator.standard_normal(s, np.float32).astype(BF16.numpy) for s in cache)
        tables = np.arange(1, blocks, dtype=np.int32).reshape(count, -1)
        queries = generator.standard_normal((count * new, 16, 128), np.float32)
        arrays = {
            "queries": queries.astype(BF16.numpy),
            "keys": keys,
            "values": values,
            "tables": tables,
            "starts": np.arange(0, count * new + 1, new, dtype=np.int32),
            "lengths": np.full(count, context, np.int32),
        }
        ours = Prepared(_unbounded(graph), device, arrays)
        place = ours.buffers[0].tensor.device
        shapes = ((count, 16, new, 128), (count, 8, context, 128), (count, 8, context, 128))
        q, k, v = (torch.randn(s, device=place, dtype=torch.bfloat16) for s in shapes)

        def theirs(q: Any = q, k: Any = k, v: Any = v, causal: bool = new > 1) -> object:
            attend = torch.nn.functional.scaled_dot_product_attention
            return attend(q, k, v, is_causal=causal, enable_gqa=True)

        calls = {"ours": ours, "ours, replayed": replayed(ours, device), "torch": theirs}
        found = in_turns(calls, device, rounds)
        moved = 2 * count * context * 8 * 128 * 2
        yield {"name": f"attention {count}x{new} of {context}", "bytes": moved, **found}


def _unbounded(graph: Graph) -> Graph:
    """The attention of tests, whose symbols are small, for real sizes."""
    builder = Builder()
    larger = {
        name: symbol(name, 1, 1 << 20) for name in ("tokens", "sequences", "blocks", "columns")
    }
    inputs = []
    for node in graph.inputs:
        shape = tuple(substitute(dim, larger) for dim in node.shape)
        inputs.append(builder.input(str(node.attr("name")), TensorType(shape, node.dtype)))
    old = graph.outputs[0].node
    node = builder.add(old.op, inputs, **dict(old.attrs))
    return Graph("attention", tuple(inputs), (Output("out", node),))


def layer(device: TorchDevice, rounds: int, *, tiny: bool) -> Iterator[Record]:
    """One layer of Qwen3-0.6B on 512 tokens, beside PyTorch and torch.compile."""
    from transformers import Qwen3Config  # noqa: PLC0415
    from transformers.models.qwen3.modeling_qwen3 import (  # noqa: PLC0415
        Qwen3DecoderLayer,
        Qwen3RotaryEmbedding,
    )

    width, tokens = (64, 12) if tiny else (1024, 512)
    config = Qwen3Config(
        hidden_size=width, intermediate_size=3 * width, num_hidden_layers=1,
        num_attention_heads=16 if not tiny else 4, num_key_value_heads=8 if not tiny else 2,
        head_dim=128 if not tiny else 16, attn_implementation="sdpa",
    )  # fmt: skip
    module: Any = Qwen3DecoderLayer(config, 0)
    module = module.to(torch.bfloat16).eval()
    hidden = torch.randn(1, tokens, width).to(torch.bfloat16)
    rotary: Any = Qwen3RotaryEmbedding(config)
    places = rotary(hidden, torch.arange(tokens)[None])
    given = {"position_embeddings": places}
    graph = capture_module(module, (hidden,), name="layer", example_keywords=given)
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    arrays = {name: to_array(tensor.detach()) for name, tensor in state.items()}
    leaves = [hidden, *places]
    names = [str(n.attr("name")) for n in graph.inputs if n.attr("role") == "argument"]
    arrays |= {name: to_array(leaf) for name, leaf in zip(names, leaves, strict=True)}
    ours = Prepared(graph, device, arrays)
    place = ours.buffers[0].tensor.device
    there = module.to(place)
    x, where = hidden.to(place), tuple(p.to(place) for p in places)
    calls: dict[str, Call | None] = {
        "ours": ours,
        "ours, replayed": replayed(ours, device),
        "torch": lambda: there(x, position_embeddings=where),
    }
    if not tiny:
        compiled: Any = torch.compile(there, mode="max-autotune")
        calls["torch.compile"] = lambda: compiled(x, position_embeddings=where)
    with torch.no_grad():
        yield {"name": f"layer of {tokens} tokens", **in_turns(calls, device, rounds)}


def checked(checks: Iterator[tuple[str, Call]]) -> list[Record]:
    """Run every check; what fails says why."""
    found = []
    for name, check in checks:
        began, failure = time.perf_counter(), None
        try:
            check()
        except Exception:  # a check may fail in any way, and the others must still run
            failure = traceback.format_exc(limit=-3)
        seconds = round(time.perf_counter() - began, 3)
        found.append({"name": name, "failure": failure, "seconds": seconds})
        print(f"{'FAILED' if failure else 'ok':7s}{name}", flush=True)
    return found


def timed(section: Callable[..., Iterator[Record]], *given: Any, tiny: bool) -> list[Record]:
    """The rows of a section of speed; a failure ends the section and is one of them."""
    rows: list[Record] = []
    try:
        for row in section(*given, tiny=tiny):
            rows.append(row)
            shown = {name: f"{1e6 * value:.1f} us" for name, value in row["median"].items()}
            print(row["name"], shown, flush=True)
    except Exception:  # as above
        rows.append({"failure": traceback.format_exc(limit=-4)})
        print(rows[-1]["failure"], flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--graphs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args(arguments)
    device = TorchDevice(asked.device)
    chip = open_target(device, CompileOptions(Path(tempfile.gettempdir()))).chip
    on_gpu = asked.device.startswith("cuda")
    record: Record = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if on_gpu else "Triton's interpreter",
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "numbers": checked(numbers(asked.device, chip, asked.graphs)),
        "models": [] if asked.tiny else checked(models(asked.device)),
    }
    for section in (matrix_products, attention, layer):
        record[section.__name__] = timed(section, device, asked.rounds, tiny=asked.tiny)
    if asked.keep:
        with HISTORY.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    failures = [r["name"] for r in (*record["numbers"], *record["models"]) if r["failure"]]
    print(f"{len(failures)} of {len(record['numbers']) + len(record['models'])} checks failed")


if __name__ == "__main__":
    main()
