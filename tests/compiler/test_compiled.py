"""Memory of a compiled program: the arena for sizes without bound, weights of odd types."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from banyan.compiler import compiled
from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.memory import Slot, arena_offsets
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings
from tests.compiler.distant import DistantDevice
from tests.compiler.small_graphs import Weights, mixed_graph, mixed_weights

F32, BF16 = DType.FLOAT32, DType.BFLOAT16
ANY = symbol("n")


@pytest.fixture(scope="module")
def cache(program_cache: Path) -> Path:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    return program_cache


@pytest.fixture(scope="module")
def device(cache: Path) -> Iterator[Device]:
    found = find_device("cpu", settings=Settings(cache_directory=cache), num_threads=2)
    yield found
    found.close()


def options(cache: Path) -> CompileOptions:
    return CompileOptions(cache, optimise=False)


def test_a_size_without_bound_places_memory_once_for_each_power_of_two(
    device: Device, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = Builder()
    x = builder.input("x", TensorType((ANY, 64), F32))
    weight = builder.input("w", TensorType((64, 64), F32), "weight")
    hidden = builder.add("dot", (x, weight), transpose_b=True, dtype=F32)
    total = builder.add("reduce", (hidden,), axes=(1,), kind="sum")
    again = builder.add("dot", (hidden, weight), transpose_b=True, dtype=F32)
    graph = Graph("unbounded", (x, weight), (Output("y", again), Output("total", total)))
    program = compile_graph(graph, device=device, options=options(cache))
    assert program.report.arena_bytes > 2**38
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) / 8
    program.load_weights(Weights({"w": w}))
    program.allocate_state({})
    placed = []

    def counted(slots: Sequence[Slot], sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
        placed.append(sizes)
        return arena_offsets(slots, sizes)

    monkeypatch.setattr("banyan.compiler.arena.arena_offsets", counted)
    # For the largest sizes, which do not fit, and then for 4, 512 and 8 rows.
    for num_rows, times in ((3, 2), (4, 2), (300, 3), (3, 3), (5, 4), (8, 4)):
        given = np.random.default_rng(num_rows).standard_normal((num_rows, 64)).astype(np.float32)
        found = program.run({"x": given})
        np.testing.assert_allclose(found["y"], given @ w.T @ w.T, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found["total"], (given @ w.T).sum(axis=1), rtol=1e-3, atol=1e-3)
        assert len(placed) == times


def test_what_is_kept_of_one_size_is_not_taken_for_another(device: Device, cache: Path) -> None:
    builder = Builder()
    x = builder.input("x", TensorType((symbol("n", 1, 8), 4), F32))
    doubled = builder.add("add", (x, x))
    total = builder.add("reduce", (doubled,), axes=(1,), kind="sum")
    graph = Graph("sizes", (x,), (Output("y", doubled), Output("total", total)))
    program = compile_graph(graph, device=device, options=options(cache))
    program.allocate_state({})
    for count, value in ((2, 1.0), (2, 3.0), (5, 1.0), (2, 2.0), (5, 4.0)):
        found = program.run({"x": np.full((count, 4), value, np.float32)})
        assert found["y"].tolist() == [[2 * value] * 4] * count
        assert found["total"].tolist() == [8 * value] * count


def test_equal_sizes_in_another_mapping_are_not_worked_out_again(
    device: Device, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = Builder()
    x = builder.input("x", TensorType((symbol("n", 1, 8), 16), F32))
    graph = Graph("plus", (x,), (Output("y", x + 1.0),))
    program = compile_graph(graph, device=device, options=options(cache))
    assert isinstance(program, CompiledProgram)
    given, made = device.allocate(8 * 64), device.allocate(8 * 64)
    rows, zeros = (memory.array(np.dtype(np.float32), (8, 16)) for memory in (made, given))
    zeros[:] = 0.0
    sizes = {"n": 3}
    program.run_on([given], [made], sizes)

    def refuse(*_: Any) -> tuple[int, ...]:
        raise AssertionError("worked out anew")

    with monkeypatch.context() as patch:
        patch.setattr(compiled, "evaluate_shape", refuse)
        program.run_on([given], [made], dict(sizes))
        rows[:] = 0.0
        # A mapping that its owner changed is another.
        sizes["n"] = 2
        with pytest.raises(AssertionError, match="worked out anew"):
            program.run_on([given], [made], sizes)
    program.run_on([given], [made], sizes)
    assert rows[:, 0].tolist() == [1.0] * 2 + [0.0] * 6


def test_a_size_that_falls_as_another_rises_gets_the_memory_it_needs(
    device: Device, cache: Path
) -> None:
    builder = Builder()
    fewer = symbol("m", 0)
    x = builder.input("x", TensorType((ANY, 64), F32))
    first = builder.input("first", TensorType((fewer, 64), F32))
    weight = builder.input("w", TensorType((64, 64), F32), "weight")
    rest = builder.add("slice", (x,), axis=0, start=fewer, stop=ANY, step=1)
    hidden = builder.add("dot", (rest, weight), transpose_b=True, dtype=F32)
    other = builder.add("dot", (x, weight), transpose_b=True, dtype=F32)
    outputs = {
        name: builder.add("dot", (value, weight), transpose_b=True, dtype=F32)
        for name, value in (("rest", hidden), ("all", other), ("first", first))
    }
    inputs = (x, first, weight)
    graph = Graph("rest", inputs, tuple(Output(name, value) for name, value in outputs.items()))
    program = compile_graph(graph, device=device, options=options(cache))
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) / 8
    program.load_weights(Weights({"w": w}))
    program.allocate_state({})
    for num_rows, num_first in ((128, 65), (128, 0), (40, 33), (1, 0)):
        given = np.random.default_rng(num_rows).standard_normal((num_rows, 64)).astype(np.float32)
        found = program.run({"x": given, "first": given[:num_first]})
        np.testing.assert_allclose(found["all"], given @ w.T @ w.T, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found["rest"], found["all"][num_first:], rtol=1e-3, atol=1e-3)


def test_an_output_that_is_an_input_or_a_view_of_a_result_is_given(
    device: Device, cache: Path
) -> None:
    builder = Builder()
    x = builder.input("x", TensorType((ANY, 6), F32))
    y = builder.add("neg", (x,))
    view = builder.add("reshape", (y,), shape=(ANY, 2, 3))
    graph = Graph("views", (x,), (Output("same", x), Output("y", y), Output("view", view)))
    given = np.arange(12, dtype=np.float32).reshape(2, 6)
    found = compile_graph(graph, device=device, options=options(cache)).run({"x": given})
    np.testing.assert_array_equal(found["same"], given)
    np.testing.assert_array_equal(found["y"], -given)
    np.testing.assert_array_equal(found["view"], -given.reshape(2, 2, 3))


@pytest.mark.parametrize("source", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_weights_of_any_floating_type_are_converted_and_packed(
    device: Device, cache: Path, source: type
) -> None:
    builder = Builder()
    x = builder.input("x", TensorType((ANY, 48), BF16))
    weight = builder.input("w", TensorType((21, 48), BF16), "weight")
    plain = builder.input("plain", TensorType((21,), BF16), "weight")
    product = builder.add("dot", (x, weight), transpose_b=True, dtype=BF16)
    y = builder.add("mul", (product, builder.add("expand", (plain,), shape=(ANY, 21))))
    graph = Graph("types", (x, weight, plain), (Output("y", y),))
    program = compile_graph(graph, device=device, options=options(cache))
    random = np.random.default_rng(1)
    w = random.standard_normal((21, 48)).astype(ml_dtypes.bfloat16)
    scale: Any = np.full(21, 0.5).astype(source)
    program.load_weights(Weights({"w": w.astype(source), "plain": scale}))
    given = random.standard_normal((5, 48)).astype(ml_dtypes.bfloat16)
    wanted = given.astype(np.float32) @ w.astype(np.float32).T / 2
    found = program.run({"x": given})["y"].astype(np.float32)
    np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=2e-2)


def test_a_size_that_no_argument_tells_is_named(device: Device, cache: Path) -> None:
    builder = Builder()
    x = builder.input("x", TensorType((ANY * ANY,), F32))
    graph = Graph("hidden", (x,), (Output("y", builder.add("neg", (x,))),))
    program = compile_graph(graph, device=device, options=options(cache))
    with pytest.raises(InputError, match="no argument tells the size n"):
        program.run({"x": np.zeros(4, np.float32)})


def test_a_program_runs_on_a_device_whose_memory_only_copies_reach(
    device: Device, cache: Path
) -> None:
    distant: Device = DistantDevice(device)
    program = compile_graph(mixed_graph(), device=distant, options=options(cache))
    weights = mixed_weights()
    arrays = weights.arrays
    program.load_weights(weights)
    program.allocate_state({"T": 3})
    x = np.arange(24, dtype=np.float32).reshape(3, 8) / 10
    wanted = x @ arrays["layer.weight"].T + arrays["layer.bias"].astype(np.float32)
    np.testing.assert_allclose(program.run({"x": x})["y"], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(program.run({"x": x})["sum"], 2 * x)
    program.write_state("total", 10 * x)
    np.testing.assert_allclose(program.run({"x": x})["sum"], 11 * x)
    with pytest.raises(InputError, match="state 'total' is"):
        program.write_state("total", x[:2])


def test_an_operation_of_the_framework_reads_and_writes_memory_the_host_cannot_see(
    device: Device, cache: Path
) -> None:
    builder = Builder()
    kind = TensorType((4, 3), F32)
    x = builder.input("x", kind)
    doubled = builder.add("add", (x, x))
    types = (kind, TensorType((4, 3), DType.INT64))
    target, static = "aten.sort.default", (("tensor", 0),)
    parts = builder.add("extern", (doubled,), target=target, static=static, types=types)
    values = builder.add("get", (parts,), index=0)
    y = builder.add("mul", (values, values))
    graph = Graph("sorted", (x,), (Output("y", y),))
    distant: Device = DistantDevice(device)
    program = compile_graph(graph, device=distant, options=options(cache))
    given = np.array([[3, 1, 2]] * 4, np.float32)
    np.testing.assert_array_equal(program.run({"x": given})["y"], [[4, 16, 36]] * 4)
