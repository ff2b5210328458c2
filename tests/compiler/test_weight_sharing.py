"""Two programs of one device that read the same weight keep it once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, Executable, compile_graph
from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.weight_sharing import load_once
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.settings import Settings
from tests.compiler.small_graphs import Weights

SIZE = 64


@pytest.fixture(scope="module")
def device(program_cache: Path) -> Iterator[Device]:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    found = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=1)
    yield found
    found.close()


def product_of(*weights: str) -> Graph:
    """The sum of the products of x with weights."""
    builder = Builder()
    kind = TensorType((SIZE, SIZE), DType.FLOAT32)
    x = builder.input("x", TensorType((symbol("n", maximum=8), SIZE), DType.FLOAT32), "argument")
    inputs = [builder.input(name, kind, "weight") for name in weights]
    products = [
        builder.add("dot", (x, weight), transpose_b=True, dtype=DType.FLOAT32) for weight in inputs
    ]
    total = products[0]
    for product in products[1:]:
        total = total + product
    return Graph("product", (x, *inputs), (Output("y", total),))


def opened(graph: Graph, device: Device, cache: Path) -> Executable:
    return compile_graph(graph, device=device, options=CompileOptions(cache_directory=cache))


def test_a_program_whose_weights_another_has_reads_them_there(
    device: Device, program_cache: Path
) -> None:
    generator = np.random.default_rng(3)
    w, v = (generator.standard_normal((SIZE, SIZE), np.float32) for _ in range(2))
    source = Weights({"w": w, "v": v})
    programs = {
        number: opened(product_of(*names), device, program_cache)
        for number, names in enumerate([("a",), ("a", "b"), ("c",)])
    }
    names = {0: {"w": "a"}, 1: {"w": "a", "v": "b"}, 2: {"w": "c"}}
    load_once(programs, names, source)
    assert source.events.count("read w") == 2, "the third program takes what the first has"
    first, last = programs[0], programs[2]
    assert isinstance(first, CompiledProgram)
    assert isinstance(last, CompiledProgram)
    assert first._kept[1] is last._kept[1]
    x = generator.standard_normal((3, SIZE), np.float32)
    for number, wanted in ((0, x @ w.T), (1, x @ w.T + x @ v.T), (2, x @ w.T)):
        found = programs[number].run({"x": x})["y"]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_what_is_loaded_again_gets_memory_of_its_own(device: Device, program_cache: Path) -> None:
    weight = np.eye(SIZE, dtype=np.float32)
    programs = {n: opened(product_of("a"), device, program_cache) for n in range(2)}
    load_once(programs, {0: {"w": "a"}, 1: {"w": "a"}}, Weights({"w": weight}))
    programs[1].load_weights(Weights({"a": 2 * weight}))
    x = np.ones((1, SIZE), np.float32)
    assert [programs[n].run({"x": x})["y"][0, 0] for n in range(2)] == [1.0, 2.0]
