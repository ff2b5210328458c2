"""Printed programs with quantised weights and floats of 8 bits."""

from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.interpreter import run_graph
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.foundation.settings import Settings
from tests.compiler.quantized_graphs import CASES, arrays, linear_graph
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
