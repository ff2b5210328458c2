from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.compile import compile_graph
from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.ir.graph import Builder, Graph, Kernel, Node, Output, Region
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used
from banyan.compiler.options import CompileOptions
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.programs.turning import turns
from banyan.compiler.targets.interpreter import run_graph
from banyan.compiler.tiling.indices import Indices
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Span, Window, whole
from banyan.devices.discovery import find_device
from banyan.devices.host_memory import adopt_host_array
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.settings import Settings
from tests.compiler.comparing import assert_same_results
from tests.compiler.targets.cpp.batches import build_batch

T = symbol("T", 1, 300)
BF16, F32, I64, BOOL = DType.BFLOAT16, DType.FLOAT32, DType.INT64, DType.BOOL
CASES: list[tuple[tuple[Dim, ...], tuple[int, ...], DType]] = [
    ((70, 133), (1, 0), BF16),
    ((70, 133), (1, 0), F32),
    ((9, 70), (1, 0), I64),
    ((3, 9, 70), (2, 0, 1), BOOL),
    ((3, 16, 40, 2), (0, 2, 1, 3), BF16),
    ((40, 2, 3, 16), (2, 0, 3, 1), BF16),
    ((2, 5, 40, 1, 3, 16), (0, 1, 4, 2, 5, 3), F32),
    ((T, 21), (1, 0), BF16),
    ((5, 1, T), (2, 1, 0), F32),
    ((4, 5, 6, 7), (3, 1, 2, 0), F32),
]


def turning_graph() -> Graph:
    """Every case as one output, turned in memory."""
    builder = Builder()
    inputs, outputs = [], []
    for number, (shape, order, dtype) in enumerate(CASES):
        x = builder.input(f"x{number}", TensorType(shape, dtype))
        inputs.append(x)
        outputs.append(Output(f"y{number}", builder.add("permute", (x,), order=order)))
    return Graph("turning", tuple(inputs), tuple(outputs))


def test_copies_that_keep_the_last_dim_are_no_turns() -> None:
    assert turns((4, 5), (1, 0), F32)
    assert turns((4, 5, 2), (1, 0, 2), BF16)
    assert not turns((4, 5, 8), (1, 0, 2), BF16)
    assert not turns((4, 5, 2), (1, 0, 2), F32)
    assert not turns((1, 5), (1, 0), F32)
    assert not turns((T, 5, T), (1, 0, 2), F32)


@pytest.mark.parametrize("length", [1, 8, 131])
def test_turned_blocks_hold_what_the_permutation_means(length: int, program_cache: Path) -> None:
    graph = turning_graph()
    generator = np.random.default_rng(1)
    arrays = {}
    for node in graph.inputs:
        shape = [length if not isinstance(d, int) else d for d in node.shape]
        values = generator.integers(0, 2 if node.dtype is BOOL else 100, shape)
        arrays[str(node.attr("name"))] = values.astype(node.dtype.numpy)
    lowered = lower(graph)
    assert operations_used(lowered)["call"] == len(CASES)
    if length == 8:
        assert_same_results(graph, lowered, arrays)
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    device = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=2)
    program = compile_graph(
        graph, device=device, options=CompileOptions(program_cache, optimise=False)
    )
    program.load_weights(NoWeights())
    found = program.run(arrays)
    for number, (_, order, _) in enumerate(CASES):
        wanted = arrays[f"x{number}"].transpose(order)
        assert np.array_equal(found[f"y{number}"], wanted), number
    device.close()


Places = Callable[[Indices, Node, Node], tuple[Window, Window]]


@contextmanager
def turning_chosen(choose: Places, folder: Path) -> Iterator[tuple[Graph, CompiledProgram]]:
    """A program of x [4,18,24] and three places that turns blocks [16,24] of x into y [3,24,16].

    `choose` gives the windows of what is read and written from the number of a block and its place.
    """
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    builder = Builder()
    tiles = Tiles(builder)
    kinds = (TensorType((4, 18, 24), F32), TensorType((3,), I64), TensorType((3, 24, 16), F32))
    inputs = (builder.input("x", kinds[0]), builder.input("places", kinds[1]))
    source, places = builder.pointer("x", kinds[0], "read"), builder.pointer("p", kinds[1], "read")
    target, item = builder.pointer("out", kinds[2], "write"), tiles.parameter()
    read, written = choose(tiles.indices, item, tiles.read(places, (At(item),)))
    turned = builder.add("permute", (tiles.read(source, read),), order=(1, 0))
    store = tiles.store(target, turned, written)
    kernel = Kernel("chosen", (3,), (source, places, target), Region((item,), (store,), ()))
    call = builder.add("call", inputs, kernel=kernel)
    graph = Graph("chosen", inputs, (Output("y", builder.add("get", (call,), index=0)),))
    device = find_device("cpu", settings=Settings(cache_directory=folder), num_threads=1)
    level = detect_instruction_sets()[0]
    (program,) = build_batch([graph], level, device=device, cache_directory=folder, is_lowered=True)
    yield graph, program
    device.close()


def test_a_block_that_is_read_outside_is_turned_as_zeros(program_cache: Path) -> None:
    def choose(index: Indices, item: Node, place: Node) -> tuple[Window, Window]:
        sides = whole(index, 16), whole(index, 24)
        return (At(place), *sides), (At(item), *reversed(sides))

    x = np.random.default_rng(2).standard_normal((4, 18, 24)).astype(np.float32)
    with turning_chosen(choose, program_cache) as (graph, program):
        for chosen in ([0, 2, 3], [1, 7, -1]):
            given: dict[str, Any] = {"x": x, "places": np.array(chosen, np.int64)}
            np.testing.assert_array_equal(program.run(given)["y"], run_graph(graph, given)["y"])


def test_a_short_block_that_is_written_outside_is_dropped(program_cache: Path) -> None:
    def choose(index: Indices, item: Node, place: Node) -> tuple[Window, Window]:
        columns, late = whole(index, 24), Span(index.number(5), 16)
        return (At(item), late, columns), (At(place), columns, whole(index, 16))

    x = np.random.default_rng(2).standard_normal((4, 18, 24)).astype(np.float32)
    around = np.ones((5, 24, 16), np.float32)
    with turning_chosen(choose, program_cache) as (_, program):
        arrays = x, np.array([-1, 1, 3]), around[1:4]
        inputs = [adopt_host_array(array) for array in arrays]
        program.run_on(inputs[:2], inputs[2:], {})
    wanted = np.ones_like(around)
    wanted[2] = np.pad(x[1, 5:], ((0, 3), (0, 0))).T
    np.testing.assert_array_equal(around, wanted)


class NoWeights:
    """A source that has none."""

    def names(self) -> list[str]:
        return []

    def read(self, name: str) -> np.ndarray:
        raise KeyError(name)

    def release(self, name: str) -> None:
        """Nothing to release."""
