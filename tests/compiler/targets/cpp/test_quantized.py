"""Printed programs with quantised weights and floats of 8 bits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from banyan.compiler.compile import compile_graph
from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.options import CompileOptions
from banyan.compiler.targets.interpreter import run_graph
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings
from tests.compiler.quantized_graphs import CASES, Case, arrays, linear_graph
from tests.compiler.small_graphs import Weights
from tests.compiler.targets.cpp.batches import build_batch


@pytest.fixture(scope="module")
def device(object_cache: Path) -> Iterator[Device]:
    found = find_device("cpu", settings=Settings(cache_directory=object_cache), num_threads=2)
    yield found
    found.close()


def cast_graph(source: DType, target: DType, size: int) -> Graph:
    builder = Builder()
    x = builder.input("x", TensorType((size,), source))
    return Graph("cast", (x,), (Output("out", builder.add("cast", (x,), dtype=target)),))


def test_programs_agree_with_the_interpreter(device: Device, object_cache: Path) -> None:
    level = detect_instruction_sets()[0]
    eighth, whole = DType.FLOAT8_E4M3, DType.FLOAT32
    every = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)
    near = np.outer(every.astype(np.float32), [1, 1.03, 0.97, 1.06]).ravel()
    halves = (every[:-1].astype(np.float32) + every[1:].astype(np.float32)) / 2
    floats = np.concatenate([near, halves, [464, 464.1, -1e9, 1e-9]]).astype(np.float32)
    graphs = [linear_graph(case) for case in CASES]
    casts = [cast_graph(eighth, whole, 256), cast_graph(whole, eighth, floats.size)]
    programs = build_batch([*graphs, *casts], level, device=device, cache_directory=object_cache)
    for case, graph, program in zip(CASES, graphs, programs, strict=False):
        given = arrays(case)
        program.load_weights(Weights(given))
        wanted = run_graph(graph, given)["out"].astype(np.float32)
        found = program.run({"x": given["x"]})["out"].astype(np.float32)
        bound = 1e-4 if case.dtype is DType.FLOAT32 else 3e-2
        np.testing.assert_allclose(found, wanted, rtol=bound, atol=bound, err_msg=str(case))
    np.testing.assert_array_equal(programs[-2].run({"x": every})["out"], every.astype(np.float32))
    rounded = programs[-1].run({"x": floats})["out"].astype(np.float32)
    with np.errstate(invalid="ignore"):
        expected = floats.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    np.testing.assert_array_equal(rounded, expected)


def feed_forward_graph(activation: str) -> Graph:
    """out = x + down(silu(gate(x)) * up(x)): 4, 8 and 4 bits a weight."""
    builder = Builder()
    rows, width, inner = symbol("rows", 1, 100), 96, 160
    x = builder.input("x", TensorType((rows, width), DType.BFLOAT16))
    inputs = [x]

    def layer(name: str, hidden: Node, layout: str, columns: int, group: int) -> Node:
        depth = hidden.shape[-1]
        assert isinstance(depth, int)
        stored, stored_width = (
            (DType.UINT8, depth // 2) if layout == "int4" else (DType.INT8, depth)
        )
        weight = TensorType((columns, stored_width), stored)
        scales = TensorType((columns, depth // group), DType.FLOAT32)
        parts = [builder.input(f"{name}.weight", weight, "weight")]
        parts.append(builder.input(f"{name}.scales", scales, "weight"))
        inputs.extend(parts)
        attrs: dict[str, Any] = {
            "format": layout,
            "group": group,
            "rows": 1,
            "activation": activation,
        }
        return builder.add("quantized_linear", (hidden, *parts), **attrs, dtype=DType.BFLOAT16)

    gate = layer("gate", x, "int4", inner, 32)
    gated = builder.add("mul", (gate, builder.add("sigmoid", (gate,))))
    hidden = builder.add("mul", (gated, layer("up", x, "int8", inner, 32)))
    out = builder.add("add", (x, layer("down", hidden, "int4", width, 160)))
    return Graph("feed_forward", tuple(inputs), (Output("out", out),))


@pytest.mark.parametrize("activation", ["int8", "plain"])
def test_whole_programs_use_the_kernels_and_agree(
    device: Device, object_cache: Path, activation: str
) -> None:
    graph = feed_forward_graph(activation)
    random = np.random.default_rng(2)
    given: dict[str, Any] = {}
    for node in graph.inputs[1:]:
        shape = tuple(int(str(size)) for size in node.shape)
        if node.dtype is DType.FLOAT32:
            given[str(node.attr("name"))] = random.uniform(0.001, 0.003, shape).astype(np.float32)
        else:
            bits = random.integers(0, 256, shape).astype(np.uint8)
            given[str(node.attr("name"))] = bits.view(node.dtype.numpy)
    options = CompileOptions(object_cache, optimise=False, use_cache=False)
    program = compile_graph(graph, device=device, target="cpp", options=options)
    program.load_weights(Weights(given))
    assert program.report.num_launches == (4 if activation == "int8" else 2)
    for rows in (1, 4, 17, 80):
        x = random.standard_normal((rows, 96)).astype(DType.BFLOAT16.numpy)
        wanted = run_graph(graph, {**given, "x": x})["out"].astype(np.float32)
        found = program.run({"x": x})["out"].astype(np.float32)
        np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=2e-2)


def test_an_fp8_weight_that_holds_nan_is_refused(device: Device, object_cache: Path) -> None:
    case = Case("fp8", 64)
    options = CompileOptions(object_cache, optimise=False, use_cache=False)
    program = compile_graph(linear_graph(case), device=device, target="cpp", options=options)
    given = arrays(case)
    given["layer.weight"][7, 3] = np.nan
    with pytest.raises(InputError, match=r"row 7 of an fp8 weight of shape \(20, 64\) holds NaN"):
        program.load_weights(Weights(given))
