"""What places of a convolution see: against PyTorch's own unfolding, and in machine code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from banyan.compiler.compile import compile_graph
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.packing import panel_shape
from banyan.compiler.ir.symbols import fixed
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used
from banyan.compiler.options import CompileOptions
from banyan.compiler.passes.expand_windows import expand_windows
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.targets.interpreter import run_graph
from banyan.compiler.tiling.options import TileOptions
from banyan.devices.discovery import find_device
from banyan.foundation.settings import Settings
from tests.compiler.comparing import assert_same_results
from tests.compiler.small_graphs import Weights

F32, BF16, F16 = DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16
SOURCES = {2: (2, 3, 9, 7), 1: (2, 5, 40)}
VIEWS = [
    ((3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
    ((2, 3), (2, 1), (1, 2), ((0, 1), (2, 0))),
    ((2, 2), (2, 2), (1, 1), ((0, 0), (-1, 0))),
    ((1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))),
    ((2, 7), (1, 1), (1, 1), ((0, 0), (0, 0))),  # one place beside another
    ((9, 2), (1, 1), (1, 1), ((0, 0), (0, 0))),
    ((9, 7), (1, 1), (1, 1), ((0, 0), (0, 0))),
    ((3,), (2,), (3,), ((4, 1),)),
    ((40,), (1,), (1,), ((0, 0),)),
    ((1,), (1,), (1,), ((0, 0),)),
]


def window_graph(op: str, dtype: DType) -> Graph:
    """Every view as one output; the inputs are x1 and x2 by the number of axes."""
    builder, outputs = Builder(), []
    inputs = {rank: builder.input(f"x{rank}", TensorType(s, dtype)) for rank, s in SOURCES.items()}
    for number, (kernel, stride, dilation, border) in enumerate(VIEWS):
        x = inputs[len(kernel)]
        axes = zip(x.shape[2:], kernel, stride, dilation, border, strict=True)
        places = tuple((n + sum(b) - (k - 1) * d - 1) // s + 1 for n, k, s, d, b in axes)
        names = {"kernel": kernel, "stride": stride, "dilation": dilation, "border": border}
        attrs: dict[str, Any] = {**names, "places": places}
        plain = x.apply("windows", **attrs)
        if op == "window_panels":
            depth, count = (fixed(size) for size in plain.shape[1:])
            shape = (plain.shape[0], *panel_shape(count, depth, dtype))
            plain = x.apply("window_panels", **attrs, shape=shape)
        outputs.append(Output(f"y{number}", plain))
    return Graph("windows", tuple(inputs.values()), tuple(outputs))


def window_arrays(dtype: DType) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        f"x{rank}": generator.standard_normal(shape).astype(dtype.numpy)
        for rank, shape in SOURCES.items()
    }


def test_windows_are_what_pytorch_unfolds() -> None:
    arrays = window_arrays(F32)
    found = run_graph(window_graph("windows", F32), arrays)
    x = torch.from_numpy(arrays["x2"])
    wanted = torch.nn.functional.unfold(x, (3, 3), padding=1)
    np.testing.assert_array_equal(found["y0"], wanted.numpy())
    grown = torch.nn.functional.pad(x, (2, 0, 0, 1))
    wanted = torch.nn.functional.unfold(grown, (2, 3), dilation=(1, 2), stride=(2, 1))
    np.testing.assert_array_equal(found["y1"], wanted.numpy())


def test_windows_written_out_are_the_same() -> None:
    graph = window_graph("windows", F32)
    written = expand_windows(graph)
    assert "windows" not in operations_used(written)
    assert_same_results(graph, written, window_arrays(F32), 0.0)


@pytest.mark.parametrize("dtype", [F32, BF16, F16])
def test_panels_hold_what_places_see(dtype: DType, program_cache: Path) -> None:
    graph, arrays = window_graph("window_panels", dtype), window_arrays(dtype)
    wanted = run_graph(graph, arrays)
    lowered = run_graph(lower(graph), arrays)
    device = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=2)
    options = CompileOptions(program_cache, optimise=False)
    program = compile_graph(graph, device=device, options=options)
    program.load_weights(Weights({}))
    found = program.run(arrays)
    for name, value in wanted.items():
        np.testing.assert_array_equal(lowered[name], value, err_msg=name)
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    device.close()


def test_a_convolution_lays_its_windows_out_as_panels_where_weights_are_packed() -> None:
    builder = Builder()
    x = builder.input("x", TensorType((1, 3, 9, 7), F32))
    weight = builder.input("weight", TensorType((1, 4, 27), F32), "weight")
    same = (1, 1)
    seen = x.apply(
        "windows",
        kernel=(3, 3),
        stride=same,
        dilation=same,
        border=((1, 1), (1, 1)),
        places=(9, 7),
    )
    graph = Graph("convolution", (x, weight), (Output("y", weight.apply("dot", seen, dtype=F32)),))
    names = {
        packing: [
            node.attr("kernel").name  # type: ignore[union-attr]
            for node in lower(graph, TileOptions(packing=packing)).nodes()
            if node.op == "call"
        ]
        for packing in (True, False)
    }
    assert names[True] == ["window_panels_0", "linear_0"]
    assert not any("panels" in name for name in names[False])
